"""Trained tokens a second and memory: fourstage's learner against a bare PyTorch loop on perfectly packed rows.

    python -m benchmarks.learner_speed A B C V [--precision float32 bfloat16] [--fourstage learner.num_workers=2]

Both sides take one optimizer step on all tokens of a rollout batch (prompts included). `fourstage` is an RL step on the
completions, `fourstage-sft` a supervised one with loss on every token; rows are as uneven as the workload makes them.
The bare loop has the same tokens in rows of one length and no mask at all, with the attention and the rows of a forward
pass in its name; the fastest of them is the yardstick.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.comparison import Side
from benchmarks.options import comparison_parser, run_as_program
from benchmarks.rates import run_claim
from benchmarks.workloads import WORKLOADS

CLAIM = "learner_speed"
BARE = {
    f"bare-{attention}-{rows}": {"attention": attention, "per_device": rows}
    for attention in ("sdpa", "eager")
    for rows in (8, 16, 32, 64)
}
OURS = ("fourstage", "fourstage-sft", "fourstage-preload")
SIDES = (*OURS, *BARE, *(f"{name}-preload" for name in BARE))
TARGETS = "Targets: at least 0.85; on V at most 1.3 times the memory; on C less than 5 % padding."

NOTES = """# Learner

Made by `benchmarks/learner_speed.py`, which says what the sides are.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    default = ("fourstage", "fourstage-sft", "bare-sdpa-16", "bare-eager-16", "bare-sdpa-32", "bare-eager-32")
    parser = comparison_parser(__doc__, CLAIM, workloads=tuple(WORKLOADS), sides=SIDES, default=default)
    parsed = parser.parse_args(arguments)

    def sides(name: str, folder: str, precision: str) -> list[Side]:
        del name
        base = {"workload": folder, "dtype": precision}
        ours = {**base, "fourstage": parsed.fourstage}
        return [
            Side(name="fourstage", module="fourstage_learner", settings={**ours, "objective": "rl"}),
            Side(name="fourstage-sft", module="fourstage_learner", settings={**ours, "objective": "sft"}),
            Side(
                name="fourstage-preload", module="fourstage_learner", settings={**ours, "objective": "rl"}, preload=True
            ),
            *(Side(name=side, module="bare_learner", settings={**base, **own}) for side, own in BARE.items()),
            *(
                Side(name=f"{side}-preload", module="bare_learner", settings={**base, **own}, preload=True)
                for side, own in BARE.items()
            ),
        ]

    run_claim(CLAIM, parsed, sides=sides, tokens="trained_tokens", targets=TARGETS, notes=NOTES)


if __name__ == "__main__":
    run_as_program(main)
