"""The policy as one module: a packed row in, the loss of its loss tokens out, or their log-probabilities.

Backbone and language-model head run inside one `forward`, so that whatever shards the weights sees the whole of it; the
logits of all tokens never exist (`learner.head_loss`, `learner.logprobs`).
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from learner.attention import PackedLayout, attention_kwargs
from learner.head_loss import TokenLoss, head_loss
from learner.learner_config import LearnerConfig
from learner.logprobs import chunked_logprobs, tokens_per_chunk
from learner.model_folder import split_model
from learner.packing import PackedBatch


class PolicyNetwork(nn.Module):
    """A causal language model that scores packed rows."""

    def __init__(self, model: PreTrainedModel, config: LearnerConfig) -> None:
        super().__init__()
        self.model = model
        self._config = config

    def forward(
        self, batch: PackedBatch, token_loss: TokenLoss | None = None, *, separable: bool = True
    ) -> tuple[Tensor, int]:
        """The loss of a packed row's loss tokens, or their log-probabilities [N] in nats when no loss is given; and the
        slots that attention used.

        The hidden state of the token before predicts a token, under the temperature of its sample. A loss that is not
        `separable` gets all tokens at once, whatever that costs.
        """
        hidden_TH, num_slots = self._hidden_states(batch)
        _, head_weight, head_bias = split_model(self.model)
        arguments = (hidden_TH.index_select(0, batch.predictor_N), head_weight, batch.target_ids_N)
        options: dict[str, Any] = {
            "temperature_N": batch.temperature_N,
            "chunk_bytes": self._config.chunk_bytes,
            "bias": head_bias,
            "compute_dtype": torch.bfloat16 if self._config.dtype == "bfloat16" else None,
        }
        if token_loss is None:
            return chunked_logprobs(*arguments, **options, with_entropy=False)[0], num_slots
        chunk = tokens_per_chunk(head_weight.shape[0], self._config.chunk_bytes)
        if separable or batch.target_ids_N.shape[0] <= chunk:
            return head_loss(*arguments, token_loss, **options), num_slots
        logprobs_N, entropy_N = chunked_logprobs(*arguments, **options, with_entropy=True)
        assert entropy_N is not None
        return token_loss(logprobs_N, entropy_N, slice(None)), num_slots

    def _hidden_states(self, batch: PackedBatch) -> tuple[Tensor, int]:
        """Final hidden states [T, H] of the packed row, and how many slots attention used for them."""
        kwargs = attention_kwargs(batch, self._config.attention)
        backbone, _, _ = split_model(self.model)
        device = batch.token_ids_T.device.type
        autocast = self._config.dtype == "bfloat16"
        with torch.autocast(device, dtype=torch.bfloat16) if autocast else contextlib.nullcontext():
            output = backbone(
                input_ids=batch.token_ids_T.unsqueeze(0),
                position_ids=batch.position_ids_T.unsqueeze(0),
                use_cache=False,
                **kwargs,
            )
        layout = kwargs.get("packed_layout")
        num_slots = layout.num_slots if isinstance(layout, PackedLayout) else batch.num_tokens
        return output.last_hidden_state[0], num_slots
