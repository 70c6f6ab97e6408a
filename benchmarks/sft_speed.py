"""Supervised tokens a second and memory: fourstage's `run_sft` against TRL's `SFTTrainer`.

    python -m benchmarks.sft_speed A B [--precision float32 bfloat16] [--per-device 4 8 16]

Rows have long-tailed lengths up to 512 tokens; loss is on every token. TRL packs rows into 512 tokens (on a CPU its
packed rows may attend to each other, which costs nothing and is not what was asked for) or groups rows of like length
and pads them; both with two implementations of attention and several device batches, the fastest is the yardstick.
Tokens are counted without padding.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.comparison import Side
from benchmarks.options import comparison_parser, run_as_program
from benchmarks.rates import run_claim
from benchmarks.workloads import WORKLOADS

CLAIM = "sft_speed"
BATCH_TOKENS = {"A": 4096, "B": 2048, "C": 4096, "V": 4096}
TRL = {
    f"trl-{mode}-{attention}": {"mode": mode, "attention": attention}
    for mode in ("packed", "grouped")
    for attention in ("sdpa", "eager")
}
SIDES = (
    "fourstage", "fourstage-preload", *TRL, *(f"{name}-preload" for name in TRL), "trl-compiled", "trl-stock",
)  # fmt: skip
TARGETS = "Targets: at least 1.25 on A and 1.00 on B, less memory on both."

NOTES = """# Supervised training

Made by `benchmarks/sft_speed.py`, which says what the sides are.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    default = ("fourstage", *(f"{name}-preload" for name in TRL))
    parser = comparison_parser(__doc__, CLAIM, workloads=tuple(WORKLOADS), sides=SIDES, default=default)
    parser.add_argument("--per-device", type=int, default=16, help="rows of one forward pass of TRL, where it pads")
    parser.add_argument("--packed-rows", type=int, default=4, help="rows of one forward pass of TRL, where it packs")
    parser.add_argument("--batch-tokens", type=int, help="tokens of an optimizer step, where not the workload's own")
    parsed = parser.parse_args(arguments)

    def sides(name: str, folder: str, precision: str) -> list[Side]:
        base = {"workload": folder, "batch_tokens": parsed.batch_tokens or BATCH_TOKENS[name]}
        ours = {**base, "dtype": precision, "fourstage": parsed.fourstage}
        made = [
            Side(name="fourstage", module="fourstage_sft", settings=ours),
            Side(name="fourstage-preload", module="fourstage_sft", settings=ours, preload=True),
        ]
        for side, own in TRL.items():
            rows = parsed.packed_rows if own["mode"] == "packed" else parsed.per_device
            given = {**base, **own, "per_device": rows, "bf16": precision == "bfloat16"}
            made += [
                Side(name=side, module="trl_sft", settings=given, peer=True),
                Side(name=f"{side}-preload", module="trl_sft", settings=given, peer=True, preload=True),
            ]
        grouped = {**base, "mode": "grouped", "attention": "eager", "per_device": parsed.per_device}
        return [
            *made,
            Side(
                name="trl-compiled", module="trl_sft", peer=True, preload=True,
                settings={**grouped, "compile": True, "bf16": precision == "bfloat16"},
            ),
            Side(
                name="trl-stock", module="trl_sft", peer=True,
                settings={**grouped, "mode": "plain", "stock": True, "per_device": 8, "bf16": True},
            ),
        ]  # fmt: skip

    run_claim(CLAIM, parsed, sides=sides, tokens="trained_tokens", targets=TARGETS, notes=NOTES)


if __name__ == "__main__":
    run_as_program(main)
