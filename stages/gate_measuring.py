"""Measures a candidate for the gates of a promotion, with the engines and benchmarks that the project has anyway.

    folder -> serving.folder_figures (no engine) -> one engine: parity, benchmarks, load -> serving.figures.Figures

The scores of what the alias points to now come from the same suite, and are measured only where they are not on the
shelf of `fourstage eval`. A figure that cannot be had is recorded with its reason; the others are measured then too.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from data.records import Completion, Mode, UserError
from evals.evaluate import benchmark_prompts, build_job
from learner.checkpoint import read_manifest
from rollout.policy import ContinuousPolicy, GenerationRequest, Policy, SamplingConfig
from serving.figures import Figures, GapFigures, LoadFigures, Place, Scores, Unmeasured, logprob_gaps, scores_of
from serving.folder_figures import contract_figures, file_figures, lineage_figures
from serving.gates_config import GatesConfig, LoadGate, ParityGate
from serving.load import steady_load
from serving.measured_engine import measured_engine
from serving.parity import transformers_logprobs
from serving.registry import Version
from stages.eval_suite import SuiteConfig, load_suite
from stages.evaluate_checkpoint import Subject, subject_of_files, subject_of_manifest, suite_measurements
from stages.progress import Progress
from stages.run_lock import RunLock
from stages.services import Services
from stages.task_needs import benchmark_uses, check_uses

FigureT = TypeVar("FigureT")
_PROBE_SEED = 20260101


class EnginePool(Policy, ContinuousPolicy, Protocol):
    """What the gates ask of the engines (`rollout.workers.RolloutPool`)."""

    def score(self, rows: Sequence[Sequence[int]]) -> list[list[list[float]]]:
        """Each worker's log-probabilities of `rows` at temperature 1: [worker][row][token]."""


def suite_of(config: GatesConfig) -> SuiteConfig:
    """The suite that the gates measure; UserError for one that does not hold what they ask about."""
    suite = load_suite(config.suite, config.suite_settings, only=config.only)
    require_measured(config, suite)
    if config.needs_suite:
        check_uses(benchmark_uses(suite.evaluation.benchmarks, suite.evaluation.seed), suite)
    return suite


def require_measured(config: GatesConfig, suite: SuiteConfig) -> None:
    """Raise UserError, naming the setting, for a gate on a benchmark and mode that the suite does not measure."""
    if config.load is not None and suite.rollout.num_workers != 1:
        raise UserError(
            f"suite_settings: rollout.num_workers={suite.rollout.num_workers} engines would share the load of the gate "
            "and a server has one; set it to 1, or load to null"
        )
    benchmarks = suite.evaluation.benchmarks
    known = {(name, mode) for name, item in benchmarks.items() for mode in item.modes}
    gate = config.benchmarks
    for benchmark, modes in ({} if gate is None else gate.at_least).items():
        for mode in modes:
            if (benchmark, mode) not in known:
                raise UserError(f"benchmarks.at_least.{benchmark}.{mode}: is not measured by suite {suite.name!r}")
    for benchmark in () if gate is None else gate.margins:
        if benchmark not in benchmarks:
            raise UserError(f"benchmarks.margins.{benchmark}: is no benchmark of suite {suite.name!r}")
    follow = config.think_follow
    if follow is not None and (follow.benchmark, "mixed") not in known:
        raise UserError(f"think_follow.benchmark: suite {suite.name!r} has no {follow.benchmark!r} in mode mixed")


def measure_figures(
    config: GatesConfig, folder: Path, current: Version | None, out: Path, *, plain: bool | None = None
) -> Figures:
    """Measure the candidate in `folder` and what the alias points to now, `current`; `out` keeps the measurements."""
    suite = suite_of(config) if config.needs_engine else None
    figures = Figures(
        files=file_figures(folder),
        contract=attempt(lambda: contract_figures(folder)),
        lineage=attempt(lambda: lineage_figures(folder)),
        loads_s=None,
        parity=None,
        scores=None,
        current=current.name if current is not None else None,
        current_scores=None,
        load=None,
        engine=measured_engine(suite.rollout) if suite is not None else None,
    )
    if suite is None:
        return figures
    compares = current is not None and config.benchmarks is not None
    with Progress(max(1, int(config.needs_suite) + int(compares)), plain=plain) as progress:
        subject = _subject(folder, is_sound=figures.files.fault is None)
        with _engines(suite, subject, out, progress) as (services, shelf):
            figures = _with_engine(config, suite, subject, shelf, services, progress, figures)
        if compares:
            assert current is not None
            theirs = _subject(current.folder, is_sound=file_figures(current.folder).fault is None)
            with _engines(suite, theirs, out, progress) as (services, shelf):
                scores = attempt(lambda: scores_of(suite_measurements(suite, theirs, shelf, services, progress)))
            figures = dataclasses.replace(figures, current_scores=scores)
    return figures


def attempt(measure: Callable[[], FigureT]) -> FigureT | Unmeasured:
    """What `measure` returns, or why it could not: a gate must not be passed over, nor keep others from being shown."""
    try:
        return measure()
    except Exception as error:
        return Unmeasured(f"{type(error).__name__}: {' '.join(str(error).split())[:400]}")


def _subject(folder: Path, *, is_sound: bool) -> Subject:
    """The checkpoint as the shelf of measurements knows it: by the content that is there."""
    return subject_of_manifest(folder, read_manifest(folder)) if is_sound else subject_of_files(folder, "damaged")


@contextmanager
def _engines(suite: SuiteConfig, subject: Subject, out: Path, progress: Progress) -> Iterator[tuple[Services, Path]]:
    """Services for one checkpoint, which start when they are needed and end here, and where its measurements lie."""
    shelf = subject.results_in(out)
    with RunLock(shelf):
        services = Services(suite, shelf, progress)
        try:
            yield services, shelf
        finally:
            services.close()


def _with_engine(
    config: GatesConfig,
    suite: SuiteConfig,
    subject: Subject,
    shelf: Path,
    services: Any,
    progress: Progress,
    figures: Figures,
) -> Figures:
    """The figures with those that need the engine. An engine that does not start leaves all of them unmeasured."""
    began = time.monotonic()
    engine = attempt(lambda: services.policy(subject.folder))
    if isinstance(engine, Unmeasured):
        progress.warn(f"the engine does not start with {subject.folder}: {engine.reason}")
        lost = Unmeasured("the engine did not start")
        return dataclasses.replace(figures, loads_s=engine, parity=lost, scores=lost, load=lost)
    loads_s = time.monotonic() - began
    pool: EnginePool = engine
    parity: GapFigures | Unmeasured | None = None
    scores: Mapping[Place, Scores] | Unmeasured | None = None
    load: LoadFigures | Unmeasured | None = None
    probes = attempt(lambda: probe_requests(suite, services.tokenizer(subject.folder)))
    if config.parity is not None:
        gate = config.parity
        progress.say("comparing log-probabilities with transformers")
        parity = _of(probes, lambda found: parity_figures(gate, subject.folder, suite, pool, found))
    if config.needs_suite:
        scores = attempt(lambda: scores_of(suite_measurements(suite, subject, shelf, services, progress)))
    if config.load is not None:
        load_gate = config.load
        progress.say(f"{load_gate.num_requests} requests, {load_gate.concurrency} at once")
        load = _of(probes, lambda found: load_figures(load_gate, pool, found))
    return dataclasses.replace(figures, loads_s=loads_s, parity=parity, scores=scores, load=load)


def _of(
    probes: Sequence[GenerationRequest] | Unmeasured, measure: Callable[[Sequence[GenerationRequest]], FigureT]
) -> FigureT | Unmeasured:
    if isinstance(probes, Unmeasured):
        return probes
    return attempt(lambda: measure(probes))


def probe_requests(suite: SuiteConfig, tokenizer: Any) -> list[GenerationRequest]:
    """A request for each held-out prompt of the suite's first benchmark, in its first mode."""
    name, benchmark = next(iter(suite.evaluation.benchmarks.items()))
    mode = benchmark.modes[0]
    asked_as: Mode = "non_thinking" if mode == "non_thinking" else "thinking"
    prompts = benchmark_prompts(name, benchmark, suite.evaluation.seed, mode=asked_as)
    job = build_job(name, mode, prompts, suite.evaluation, tokenizer=tokenizer, seed=_PROBE_SEED)
    return [request for request in job.requests if request.sample_index == 0]


def parity_figures(
    gate: ParityGate, folder: Path, suite: SuiteConfig, pool: EnginePool, probes: Sequence[GenerationRequest]
) -> GapFigures:
    """Sample some answers and compare what each engine and transformers give every token of prompt and answer."""
    sampling = SamplingConfig(temperature=1.0, max_tokens=gate.max_tokens)
    requests = [dataclasses.replace(probe, sampling=sampling, want_logprobs=True) for probe in probes[: gate.num_rows]]
    answers: Sequence[Completion] = pool.generate(requests)
    rows = [(*answer.prompt_token_ids, *answer.token_ids) for answer in answers]
    expected = transformers_logprobs(folder, rows, dtype=suite.rollout.engine.dtype)
    scored = pool.score(rows)
    return logprob_gaps([row for worker in scored for row in worker], expected * len(scored))


def load_figures(gate: LoadGate, pool: EnginePool, probes: Sequence[GenerationRequest]) -> LoadFigures:
    """The engine under the gate's load, after as many requests that only warm it up.

    A prompt that the engine has in its cache is answered sooner: `generate` empties it of the benchmarks' prompts, and
    prompts are taken in turn, so that none is asked again before all were.
    """
    prompts = itertools.cycle(probes)

    def requests(name: str, count: int, num_tokens: int) -> list[GenerationRequest]:
        sampling = SamplingConfig(temperature=1.0, max_tokens=num_tokens, ignore_end=True)
        return [
            dataclasses.replace(
                next(prompts), prompt_uid=f"{name}-{index}", sampling=sampling, want_logprobs=False
            )
            for index in range(count)
        ]  # fmt: skip

    pool.generate(requests("warm-up", gate.concurrency, gate.num_tokens))
    load = requests("load", gate.num_requests, gate.num_tokens)
    first_tokens = requests("first-token", gate.num_requests - gate.concurrency, 1)
    return steady_load(pool, load, concurrency=gate.concurrency, first_tokens=first_tokens)
