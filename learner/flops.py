"""Model FLOPs: what a step has to compute, counted from the model's shape, whatever way it is computed.

The usual count (Kaplan et al. 2020, arXiv 2001.08361, section 2.1; PaLM, arXiv 2204.02311, appendix B): a product with
a matrix of n weights costs 2n operations a token forward and twice that backward; recomputation does not count. Beyond
these sources, causal attention counts the half that is not masked, and the language-model head counts the tokens that
carry loss alone, because no other token needs its logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

FORWARD_BACKWARD = 3
"""Forward and backward together, in units of the forward pass."""


@dataclass(frozen=True, slots=True)
class ModelFlops:
    """Operations of one forward pass: of a token in the layers, of a squared length in attention, of one prediction."""

    per_token: float
    per_squared_length: float
    per_prediction: float

    @classmethod
    def of(cls, config: Any) -> ModelFlops:
        """From a transformers config of a dense decoder (gated MLP, grouped-query attention) or a mixture of experts.

        Of the experts those count that a token is sent to, and the router.
        """
        hidden, heads = config.hidden_size, config.num_attention_heads
        head_dim = getattr(config, "head_dim", None) or hidden // heads
        kv_heads = getattr(config, "num_key_value_heads", None) or heads
        projections = hidden * head_dim * (2 * heads + 2 * kv_heads)
        num_experts = getattr(config, "num_experts", 0) or 0
        if num_experts:
            mlp = hidden * (3 * config.moe_intermediate_size * config.num_experts_per_tok + num_experts)
        else:
            mlp = 3 * hidden * config.intermediate_size
        layers = config.num_hidden_layers
        return cls(
            per_token=2.0 * layers * (projections + mlp),
            # Two products, scores and mixing, of L x L x d for each head; half of the scores are masked.
            per_squared_length=2.0 * layers * heads * head_dim,
            per_prediction=2.0 * hidden * config.vocab_size,
        )

    def forward(self, num_tokens: int, lengths: Sequence[int], num_predictions: int) -> float:
        """Operations of one forward pass over samples of these lengths, of `num_tokens` distinct tokens."""
        squares = sum(length * length for length in lengths)
        return self.per_token * num_tokens + self.per_squared_length * squares + self.per_prediction * num_predictions

    def train(self, num_tokens: int, lengths: Sequence[int], num_predictions: int) -> float:
        """Operations of forward and backward pass."""
        return FORWARD_BACKWARD * self.forward(num_tokens, lengths, num_predictions)
