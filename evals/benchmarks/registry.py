"""Which published benchmarks there are, and `load_benchmark`, which makes prompts of a file that the user downloaded.

    name, path -> rows -> Prompt (task and reference in it) -> rollouts -> the task's verifier

Nothing is fetched, and nothing is trained on: the tasks that score them make no prompts of their own.
"""

from __future__ import annotations

import dataclasses
import difflib
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from data.records import Mode, Prompt, UserError
from data.sources import uid_rank
from evals.benchmarks import (
    aime,
    bfcl,
    gpqa_diamond,
    gsm8k,
    humaneval,
    ifeval,
    livecodebench,
    math_500,
    mmlu_redux,
    multi_if,
)
from evals.benchmarks.benchmark import Benchmark, LeftOut

logger = logging.getLogger(__name__)

BENCHMARKS: Mapping[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        aime.AIME24, aime.AIME25, math_500.BENCHMARK, gsm8k.BENCHMARK, gpqa_diamond.BENCHMARK, mmlu_redux.BENCHMARK,
        livecodebench.WINDOW, livecodebench.ALL, humaneval.BENCHMARK, ifeval.BENCHMARK, multi_if.BENCHMARK,
        bfcl.BENCHMARK,
    )
}  # fmt: skip
"""Every benchmark by its name."""


@dataclass(frozen=True, slots=True)
class LoadedBenchmark:
    """The prompts of a benchmark with what was read: `num_rows` rows, `left_out` of them by reason.

    `notes` are what a reader of a score has to know: rows that are missing or left out, and a limit.
    """

    benchmark: Benchmark
    prompts: tuple[Prompt, ...]
    num_rows: int
    left_out: Mapping[str, int]
    notes: tuple[str, ...]


def get_benchmark(name: str) -> Benchmark:
    """The benchmark of that name; UserError with the nearest name when there is none."""
    if name not in BENCHMARKS:
        near = difflib.get_close_matches(name, BENCHMARKS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known ones: {', '.join(BENCHMARKS)}"
        raise UserError(f"benchmark {name!r} does not exist: {hint}")
    return BENCHMARKS[name]


def load_benchmark(name: str, path: Path | str, *, limit: int | None = None, mode: Mode = "thinking") -> list[Prompt]:
    """The prompts of a published benchmark, from a local file or folder, in the order of its rows.

    `limit` keeps that many, chosen by their content and not by position. `mode` is the one that they will be asked in:
    only LiveCodeBench words its prompts by it, and `enable_thinking` is left to the evaluation. What a reader of a
    score has to know is logged as warnings; `read_benchmark` returns it. Raises `UserError` that names file, row and
    field.
    """
    loaded = read_benchmark(name, path, limit=limit, mode=mode)
    for note in loaded.notes:
        logger.warning("%s: %s", name, note)
    return list(loaded.prompts)


def read_benchmark(
    name: str, path: Path | str, *, limit: int | None = None, mode: Mode = "thinking"
) -> LoadedBenchmark:
    """`load_benchmark` with counts and notes."""
    benchmark, path = get_benchmark(name), Path(path)
    if limit is not None and limit < 1:
        raise UserError(f"limit: must be at least 1, got {limit}")
    make = benchmark.prompt_non_thinking if mode == "non_thinking" else None
    prompts: list[Prompt] = []
    num_rows, left_out = 0, Counter[str]()
    for row in benchmark.rows(path):
        num_rows += 1
        made = (make or benchmark.prompt)(row)
        if isinstance(made, LeftOut):
            left_out[made.reason] += 1
        else:
            prompts.append(made)
    if not prompts:
        why = _listed(left_out) or "empty"
        raise UserError(f"{path}: no prompt of {benchmark.title} among {num_rows} rows ({why}); give the whole file")
    prompts = _distinct(prompts)
    notes = _notes(benchmark, path, num_rows, left_out)
    if limit is not None and limit < len(prompts):
        notes.append(f"limit: {limit} of {len(prompts)} prompts")
        kept = set(sorted((prompt.uid for prompt in prompts), key=lambda uid: uid_rank(0, uid))[:limit])
        prompts = [prompt for prompt in prompts if prompt.uid in kept]
    return LoadedBenchmark(benchmark, tuple(prompts), num_rows, dict(left_out), tuple(notes))


def _notes(benchmark: Benchmark, path: Path, num_rows: int, left_out: Counter[str]) -> list[str]:
    notes = []
    if num_rows not in benchmark.expected_rows:
        published = " or ".join(map(str, benchmark.expected_rows))
        notes.append(f"{path} has {num_rows} rows, the published {benchmark.title} {published}")
    if left_out:
        notes.append(f"{left_out.total()} of {num_rows} rows left out: {_listed(left_out)}")
    if parts := benchmark.also_left_out(path) if benchmark.also_left_out else ():
        notes.append(f"not read: {', '.join(parts)}")
    return notes


def _listed(left_out: Counter[str]) -> str:
    return "; ".join(f"{reason} ({count})" for reason, count in left_out.most_common())


def _distinct(prompts: Iterable[Prompt]) -> list[Prompt]:
    """The prompts with distinct uids: a row that is published twice counts twice, the second one as `…-2`."""
    seen = Counter[str]()
    distinct = []
    for prompt in prompts:
        seen[prompt.uid] += 1
        times = seen[prompt.uid]
        distinct.append(prompt if times == 1 else dataclasses.replace(prompt, uid=f"{prompt.uid}-{times}"))
    return distinct
