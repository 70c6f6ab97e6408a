"""What a stage cost, for its manifest: tokens, seconds and model FLOPs, training and generating apart.

Training is counted exactly, by the learner, in every step (`learner.flops`). Generating is counted as one forward pass
for each sampled token, without what attention reads of the tokens before it and without the prompts, whose cached parts
the engine computes once: at the lengths of this pipeline both are small beside the layers. Evaluation is no cost of a
stage.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from learner.flops import ModelFlops


def stage_cost(
    rows: Iterable[Mapping[str, Any]], *, num_tokens: int, seconds: float, flops: ModelFlops
) -> dict[str, float]:
    """The cost of a stage from the rows of its metrics; `num_tokens` were trained on by supervision or generated.

    `tokens` and `seconds` (wall time, over all sessions) as given; `trained_tokens` through the learner, those of RL
    too; `generated_tokens`; `train_flops`, `generation_flops` and their sum `flops`. The FLOPs are absent when a step
    did not record its own.
    """
    rows = list(rows)
    # A step of RL has sampled its tokens, and these are in num_tokens; a supervised step adds those it trains on.
    supervised = sum(int(row.get("num_tokens", 0)) for row in rows if "completion_tokens" not in row)
    generated = num_tokens - supervised
    cost = {
        "tokens": float(num_tokens),
        "seconds": seconds,
        "trained_tokens": float(sum(int(row.get("num_tokens", 0)) for row in rows)),
        "generated_tokens": float(generated),
    }
    learned = [row for row in rows if row.get("num_tokens")]  # a step whose groups were all uniform computed nothing
    if all("model_flops" in row for row in learned):
        training = float(sum(row["model_flops"] for row in learned))
        generation = (flops.per_token + flops.per_prediction) * generated
        cost |= {"train_flops": training, "generation_flops": generation, "flops": training + generation}
    return cost
