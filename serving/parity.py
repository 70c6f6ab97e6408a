"""The log-probabilities that transformers gives, as anybody would compute them: what the engine is held against."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from data.records import UserError


def transformers_logprobs(folder: Path, rows: Sequence[Sequence[int]], *, dtype: str) -> list[list[float]]:
    """The log-probability in nats, at temperature 1, of every token of `rows` given those before it; the first's is 0.

    log p(x_t | x_<t) = logits_{t-1}[x_t] - logsumexp(logits_{t-1}), the logits in float32. The model runs on the CPU in
    `dtype`, one row after the other, with transformers' own attention: no kernel of this project is in it. Raises
    UserError for weights that do not fit the config, which transformers would fill in at random.
    """
    from transformers import AutoModelForCausalLM

    model, info = AutoModelForCausalLM.from_pretrained(
        folder, dtype=getattr(torch, dtype), use_safetensors=True, local_files_only=True, trust_remote_code=False,
        output_loading_info=True,
    )  # fmt: skip
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        names = sorted(str(name) for name in info.get(kind, ()))
        if names:
            raise UserError(f"checkpoint {folder}: {kind.replace('_', ' ')} in the weights, first {names[0]}")
    model.eval()
    found = []
    for row in rows:
        ids_T = torch.tensor(row)
        with torch.inference_mode():
            logits_TV = model(ids_T[None]).logits[0, :-1].float()
        logprobs_T = torch.log_softmax(logits_TV, dim=-1).gather(1, ids_T[1:, None])[:, 0]
        found.append([0.0, *logprobs_T.tolist()])
    return found
