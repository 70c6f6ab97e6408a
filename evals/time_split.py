"""Where the time of a stage went: its steps' seconds by phase, throughput, padding and memory, as a table and a figure.

Reads the rows of `metrics.jsonl`. A step's wall time is taken apart into phases that follow each other and add up to
it, so that a stacked bar of them is the whole of the time:

    generate, score    completions, and what scoring took after the last of them
    proximal           log-probabilities of the batch before its first optimizer step
    pack .. update     the optimizer steps, as the first learner rank saw them
    sync, check        weights to the engines, and whether these now compute what the learner does
    save               trainer states
    wait               for rollouts, or for the learner beyond the phases of its first rank
    other              the rest: advantages, records, progress
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from matplotlib.figure import Figure
from rich.console import Group
from rich.table import Table
from rich.text import Text

from evals import markdown
from evals.markdown import NOT_MEASURED, Row

PHASES = (
    "generate", "score", "proximal", "pack", "forward", "backward", "update", "sync", "check", "save", "wait", "other",
)  # fmt: skip
"""The parts of a step, in the order in which they are shown."""

LEARNER_PHASES = ("pack", "forward", "backward", "update")
"""Those that the learner times itself; with what the controller waits beyond them they make up `learn_s`."""

_COLOURS = {
    "generate": "#1f5fa8", "score": "#7fb2e5", "proximal": "#b9a3d9", "pack": "#e3c9a0", "forward": "#f0a03c",
    "backward": "#d0661a", "update": "#8a3f0d", "sync": "#2e8b57", "check": "#5fb384", "save": "#9bd3ae",
    "wait": "#c23b3b", "other": "#c9c9c9",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class StageTime:
    """The steps of one stage together. None where the rows do not say.

    `seconds` by phase; tokens and operations a second of generating and of learning alone; `mfu` is the share of what
    the learner's devices can compute in dense bfloat16; memory in bytes is the most of any step and process.
    """

    stage: str
    num_steps: int
    seconds: Mapping[str, float] = field(default_factory=dict)
    generate_tokens_per_s: float | None = None
    learn_tokens_per_s: float | None = None
    flops_per_s: float | None = None
    mfu: float | None = None
    padding_share: float | None = None
    shared_prompt_share: float | None = None
    learner_peak_bytes: float | None = None
    engine_peak_bytes: float | None = None
    host_memory_share: float | None = None

    @property
    def total_s(self) -> float:
        return sum(self.seconds.values())

    def shares(self) -> dict[str, float]:
        """Share of each phase that took any time, in the order of `PHASES`."""
        taken = {name: self.seconds[name] for name in PHASES if self.seconds.get(name, 0.0) > 0}
        return {name: seconds / self.total_s for name, seconds in taken.items()}


def stage_time(stage: str, rows: Sequence[Row]) -> StageTime:
    """The rows of one stage added up; phases are empty for rows of a run that did not record them."""
    timed = [(row, row["timing"]) for row in rows if "other_s" in (row.get("timing") or {})]
    seconds = {name: sum(timing.get(f"{name}_s", 0.0) for _, timing in timed) for name in PHASES} if timed else {}
    learned = [(row, timing) for row, timing in timed if row.get("num_tokens") and timing.get("learn_s")]
    flops = sum(row.get("model_flops", 0.0) for row, _ in learned)
    peak = [timing["learn_s"] * timing["peak_flops_per_s"] for _, timing in learned if "peak_flops_per_s" in timing]

    def per_second(column: str, phase: str, chosen: Sequence[tuple[Row, Row]]) -> float | None:
        spent = sum(timing.get(phase, 0.0) for _, timing in chosen)
        return sum(row.get(column) or 0.0 for row, _ in chosen) / spent if spent > 0 else None

    def mean(column: str) -> float | None:
        held = [(row[column], row["num_tokens"]) for row, _ in learned if column in row]
        return sum(value * weight for value, weight in held) / sum(weight for _, weight in held) if held else None

    def largest(*columns: str) -> float | None:
        return max((timing[name] for _, timing in timed for name in columns if name in timing), default=None)

    return StageTime(
        stage=stage,
        num_steps=len(timed),
        seconds=seconds,
        generate_tokens_per_s=per_second("completion_tokens", "generate_s", timed),
        learn_tokens_per_s=per_second("num_tokens", "learn_s", learned),
        flops_per_s=per_second("model_flops", "learn_s", learned) if flops else None,
        mfu=flops / sum(peak) if peak and len(peak) == len(learned) else None,
        padding_share=mean("padding_share"),
        shared_prompt_share=mean("shared_prompt_share"),
        learner_peak_bytes=largest("learner_device_peak_bytes") or largest("learner_peak_bytes"),
        engine_peak_bytes=largest("engine_peak_bytes"),
        host_memory_share=largest("host_memory_share"),
    )


# -- shown -------------------------------------------------------------------------------------------------------------


def time_table(time: StageTime) -> Group:
    """One stage for a terminal: seconds, share and a bar for each phase, and what the steps amounted to below."""
    steps = "step" if time.num_steps == 1 else "steps"
    title = f"{time.stage}: {time.num_steps:,} {steps} in {markdown.duration(time.total_s)}"
    table = Table(box=None, padding=(0, 2))
    for name, justify in (("phase", "left"), ("time", "right"), ("share", "right"), ("", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for name, share in time.shares().items():
        bar = "█" * round(30 * share) or "▏"
        table.add_row(name, markdown.duration(time.seconds[name]), markdown.percent(share), bar)
    facts = time_facts(time)
    lines = [[f"{name} {facts[name]}" for name in names if facts[name] != NOT_MEASURED] for names in _LINES]
    return Group(Text(title, style="bold"), table, *(Text("  " + "   ".join(line)) for line in lines if line))


def time_facts(time: StageTime) -> dict[str, str]:
    """What the steps amounted to, by name, as text."""
    tflops = None if time.flops_per_s is None else time.flops_per_s / 1e12
    return {
        "generated tokens/s": markdown.count(time.generate_tokens_per_s),
        "learned tokens/s": markdown.count(time.learn_tokens_per_s),
        "TFLOP/s": NOT_MEASURED if tflops is None else f"{tflops:.3g}",
        "MFU": markdown.percent(time.mfu),
        "padding": markdown.percent(time.padding_share),
        "shared prompts": markdown.percent(time.shared_prompt_share),
        "learner peak": _size(time.learner_peak_bytes),
        "engine peak": _size(time.engine_peak_bytes),
        "host memory": markdown.percent(time.host_memory_share),
    }


_LINES = (
    ("generated tokens/s", "learned tokens/s", "TFLOP/s", "MFU"),
    ("padding", "shared prompts"),
    ("learner peak", "engine peak", "host memory"),
)
"""How the facts stand below the table."""


def _size(size_bytes: float | None) -> str:
    return NOT_MEASURED if size_bytes is None else f"{size_bytes / 2**30:.2f} GiB"


def time_section(times: Sequence[StageTime], stage_seconds: Mapping[str, float]) -> str:
    """The section of the report: the figure, each stage's phases in percent, and its throughput and memory.

    `stage_seconds` is what whole stages took; what lies outside of their steps is the stage's data, the start of
    engines and the checkpoint.
    """
    times = [time for time in times if time.num_steps]
    if not times:
        return NOT_MEASURED
    phases = [name for name in PHASES if any(time.seconds.get(name, 0.0) > 0 for time in times)]
    split = [
        {
            "stage": time.stage,
            "steps": f"{time.num_steps:,}",
            "time": markdown.duration(time.total_s),
            "of the stage": markdown.percent(_share_of_stage(time, stage_seconds)),
        }
        | {name: markdown.percent(time.shares().get(name, 0.0)) for name in phases}
        for time in times
    ]
    facts = [{"stage": time.stage, **time_facts(time)} for time in times]
    known = [name for name in facts[0] if any(row[name] != NOT_MEASURED for row in facts)]
    return (
        "![share of the time of each stage's steps by phase](figures/time-split.png)\n\n"
        "Phases follow each other and add up to the wall time of the steps; `docs/performance.md` says what each is "
        "and what to change when one dominates.\n\n"
        + markdown.table(split, num_text=1)
        + "\n\n"
        + markdown.table([{name: row[name] for name in known} for row in facts], num_text=1)
    )


def _share_of_stage(time: StageTime, stage_seconds: Mapping[str, float]) -> float | None:
    whole = stage_seconds.get(time.stage)
    return min(1.0, time.total_s / whole) if whole else None


def time_figure(times: Sequence[StageTime]) -> Figure | None:
    """A stacked bar for each stage: share of its steps' wall time by phase; None when no stage has recorded them."""
    times = [time for time in times if time.num_steps]
    if not times:
        return None
    shares = [time.shares() for time in times]
    labels = [f"{time.stage}\n{markdown.duration(time.total_s)}" for time in times]
    figure = Figure(figsize=(8.6, 1.5 + 0.62 * len(times)), layout="constrained")
    axis = figure.subplots()
    left = [0.0] * len(times)
    for name in PHASES:
        widths = [100 * share.get(name, 0.0) for share in shares]
        if not any(widths):
            continue
        bars = axis.barh(labels, widths, left=left, color=_COLOURS[name], label=name, height=0.62)
        texts = [f"{width:.0f}" if width >= 4 else "" for width in widths]
        dark = name in ("generate", "update", "backward", "sync", "wait")
        axis.bar_label(bars, texts, label_type="center", fontsize=8, color="white" if dark else "black")
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axis.invert_yaxis()
    axis.set(xlim=(0, 100), xlabel="share of the wall time of the stage's steps (%)")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(ncols=6, loc="upper center", bbox_to_anchor=(0.5, -0.22 - 0.3 / len(times)), frameon=False, fontsize=8)
    return figure
