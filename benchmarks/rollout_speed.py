"""Generated tokens a second: fourstage's rollout pool against raw vLLM on the same requests.

    python -m benchmarks.rollout_speed A B C [--precision float32] [--repeats 3]

`vllm` gets the same ids, seeds, forced lengths and log-probabilities and runs in its own process without Ray; it is
what fourstage is compared with. `vllm-plain` has neither seeds nor log-probabilities (nothing could be trained on what
it returns), `vllm-as-installed` leaves processes and threads to vLLM, `vllm-compiled` lets it compile the model.
Sides that end in -preload have OpenMP and tcmalloc preloaded.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.comparison import Side
from benchmarks.options import comparison_parser, run_as_program
from benchmarks.rates import run_claim
from benchmarks.workloads import WORKLOADS

CLAIM = "rollout_speed"
RAW = {
    "vllm": {},
    "vllm-plain": {"plain": True},
    "vllm-as-installed": {"as_installed": True},
    "vllm-compiled": {"compiled": True},
}
SIDES = ("fourstage", "fourstage-preload", *RAW, "vllm-preload")
TARGETS = "Target: at least 0.90 of `vllm`."

NOTES = """# Rollout

Made by `benchmarks/rollout_speed.py`, which says what the sides are.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = comparison_parser(__doc__, CLAIM, workloads=tuple(WORKLOADS), sides=SIDES, default=("fourstage", "vllm"))
    parsed = parser.parse_args(arguments)

    def sides(name: str, folder: str, precision: str) -> list[Side]:
        del name
        base = {"workload": folder, "dtype": precision}
        ours = {**base, "fourstage": parsed.fourstage}
        return [
            Side(name="fourstage", module="fourstage_rollout", settings=ours),
            Side(name="fourstage-preload", module="fourstage_rollout", settings=ours, preload=True),
            *(Side(name=side, module="vllm_rollout", settings={**base, **own}) for side, own in RAW.items()),
            Side(name="vllm-preload", module="vllm_rollout", settings=base, preload=True),
        ]

    run_claim(CLAIM, parsed, sides=sides, tokens="completion_tokens", targets=TARGETS, notes=NOTES)


if __name__ == "__main__":
    run_as_program(main)
