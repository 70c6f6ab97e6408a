"""`fourstage eval`: one checkpoint on one suite, through the engines that training uses, kept by content and resumed.

    suite + checkpoint -> jobs (benchmark × mode × budget × seed) -> a file each -> evals.pooling -> results.json, .md

A job's file is written whole when its last completion is scored, under the key of everything that decides its numbers
(`evals.cache_keys`). A killed evaluation goes on with the first job that has no file; one that has all files starts no
engine; another seed, benchmark or budget measures only what is new. The evaluation of a pipeline (`stages.run`) samples
the jobs of `evals.evaluate` too, all in one call.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from configs.load import config_hash, save_config, to_dict
from data.chat import chat_template
from data.files import atomic_write, read_json, write_json
from data.model_folder import require_model_folder, require_positions
from data.records import Completion, Prompt, Score, UserError
from data.tokenizer import require_chat_tokens
from evals.cache_keys import code_key, files_key, job_key, job_name
from evals.evaluate import build_job, category_of, median_thinking_tokens, prompts_by_mode
from evals.measurement import (
    Job,
    Measurement,
    OnProgress,
    RollOut,
    benchmark_result,
    measure,
    measurement_of_record,
    measurement_record,
)
from evals.pooling import by_category, pool, result_dict
from evals.results_table import markdown_document, rich_tables
from evals.summary import EvalMode, summary_dict
from learner.checkpoint import FileRecord, Manifest, hash_files, verify_checkpoint
from rollout.policy import GenerationRequest, Policy
from stages.eval_suite import SuiteConfig
from stages.pipeline import judge_identity, package_versions
from stages.preference_model import preference_identity
from stages.progress import Progress
from stages.rollouts import Rollouts
from stages.run_lock import RunLock
from stages.services import Services
from stages.task_needs import benchmark_uses, check_uses


class MeasuringServices(Protocol):
    """What an evaluation needs of `stages.services.Services`."""

    def tokenizer(self, folder: str | Path) -> Any: ...

    def policy(self, folder: str | Path) -> Policy: ...

    def roll_out(
        self,
        policy: Any,
        prompts: Sequence[Prompt],
        requests: Sequence[GenerationRequest],
        *,
        on_progress: OnProgress | None = None,
    ) -> Rollouts: ...


@dataclass(frozen=True, slots=True)
class Subject:
    """The checkpoint that is measured: its folder, what people call it, and the key of its files."""

    folder: Path
    name: str
    key: str

    def results_in(self, out: Path) -> Path:
        """Where below `out` what was measured of it is kept, by everybody who measures it."""
        return out / f"{self.name}-{self.key[:12]}"


def subject_of(folder: Path) -> Subject:
    """Read the checkpoint's files once; a manifest is held against them. UserError when it is no whole model folder."""
    require_model_folder(folder, field="CHECKPOINT")
    if (folder / "manifest.json").exists():
        return subject_of_manifest(folder, verify_checkpoint(folder))
    return subject_of_files(folder, folder.resolve().name)


def subject_of_manifest(folder: Path, manifest: Manifest) -> Subject:
    """The checkpoint by the hashes of its manifest, which the caller has held against the files."""
    return Subject(folder, manifest.stage, _key_of(manifest.files))


def subject_of_files(folder: Path, name: str) -> Subject:
    """The checkpoint by the content that is there, whatever a manifest says."""
    return Subject(folder, name, _key_of(hash_files(folder)))


def _key_of(files: Mapping[str, FileRecord]) -> str:
    return files_key({path: record.sha256 for path, record in files.items()})


def evaluate_checkpoint(
    suite: SuiteConfig, checkpoint: Path, out: Path, *, plain: bool | None = None
) -> tuple[dict[str, Any], Path]:
    """Measure what is not measured yet and return the results with the folder in which they lie."""
    subject = subject_of(checkpoint)
    require_positions(checkpoint, suite.rollout.engine.max_model_len)
    check_uses(benchmark_uses(suite.evaluation.benchmarks, suite.evaluation.seed), suite)
    folder = subject.results_in(out)
    num_parts = 2 if suite.evaluation.budget_benchmarks else 1
    with RunLock(folder), Progress(num_parts, plain=plain) as progress:
        services = Services(suite, folder, progress)
        try:
            return measure_suite(suite, subject, folder, services, progress), folder
        finally:
            services.close()


def measure_suite(
    suite: SuiteConfig, subject: Subject, folder: Path, services: MeasuringServices, progress: Progress
) -> dict[str, Any]:
    """The document of results, also written to `folder` beside the measurements it is made of."""
    work, prompts = _work_of(suite, subject, folder, services, progress)
    jobs = _suite_jobs(suite, prompts, services.tokenizer(subject.folder))
    measured = work.all_of(jobs, f"evaluate {subject.name}")
    budgeted: list[Measurement] = []
    if suite.evaluation.budget_benchmarks:
        known = {job_place(job) for job in jobs}
        tokenizer = services.tokenizer(subject.folder)
        budget_jobs = [
            build_job(name, "thinking", asked, suite.evaluation, tokenizer=tokenizer, seed=seed, budget=budget)
            for seed in suite.seeds
            for budget in thinking_budgets(suite, median_thinking_tokens(measured))
            for name in suite.evaluation.budget_benchmarks
            for asked in [prompts[name]["thinking"]]
        ]
        budget_jobs = [job for job in budget_jobs if job_place(job) not in known]
        budgeted = work.all_of(budget_jobs, "thinking budgets")
    document = results_document(suite, subject, measured, budgeted)
    stem = f"{suite.name}-{config_hash([to_dict(suite), work.shelf.setting])[:12]}"
    save_config(suite, folder / f"{stem}.yaml")
    write_json(folder / f"{stem}.json", document)
    atomic_write(folder / f"{stem}.md", markdown_document(document))
    progress.say(f"results: {folder / stem}.json, .md")
    return document


def suite_measurements(
    suite: SuiteConfig, subject: Subject, folder: Path, services: MeasuringServices, progress: Progress
) -> list[Measurement]:
    """The measurements of `measure_suite` without thinking budgets and without a document of results."""
    work, prompts = _work_of(suite, subject, folder, services, progress)
    return work.all_of(_suite_jobs(suite, prompts, services.tokenizer(subject.folder)), f"evaluate {subject.name}")


def _work_of(
    suite: SuiteConfig, subject: Subject, folder: Path, services: MeasuringServices, progress: Progress
) -> tuple[_Work, dict[str, dict[EvalMode, list[Prompt]]]]:
    """What makes the measurements of a checkpoint, and the prompts of each benchmark as each mode asks them."""
    tokenizer = services.tokenizer(subject.folder)
    require_chat_tokens(tokenizer, str(subject.folder))
    if tokenizer.chat_template != chat_template():
        progress.warn(f"{subject.folder} has a chat template of its own; prompts are rendered in the format of Qwen3")
    shelf = _Shelf(folder / "measurements", subject.key, _setting(suite))
    prompts = {
        name: prompts_by_mode(name, benchmark, suite.evaluation.seed)
        for name, benchmark in suite.evaluation.benchmarks.items()
    }
    return _Work(suite, subject, services, progress, shelf), prompts


def _suite_jobs(
    suite: SuiteConfig, prompts: Mapping[str, Mapping[EvalMode, list[Prompt]]], tokenizer: Any
) -> list[Job]:
    """The jobs of a suite: each benchmark with each seed in its modes, under no other budget than its own."""
    return [
        build_job(name, mode, prompts[name][mode], suite.evaluation, tokenizer=tokenizer, seed=seed)
        for seed in suite.seeds
        for name, benchmark in suite.evaluation.benchmarks.items()
        for mode in benchmark.modes
    ]


def job_place(job: Job) -> tuple[str, str, int | None, int]:
    """What tells a job from the others of a suite."""
    return job.benchmark, job.mode, job.budget, job.seed


def thinking_budgets(suite: SuiteConfig, median_tokens: int) -> list[int]:
    """The budgets in tokens, those of the suite and those that are shares of the median, each once, in order."""
    shares = [round(share * median_tokens) for share in suite.evaluation.budget_shares]
    return sorted({*suite.budgets, *shares})


def roll_out_of(services: MeasuringServices, folder: Path) -> RollOut:
    """What an evaluation samples with: the checkpoint in the rollout engines."""

    def roll_out(
        prompts: Sequence[Prompt], requests: Sequence[GenerationRequest], on_progress: OnProgress | None
    ) -> tuple[Sequence[Completion], Sequence[Score]]:
        found = services.roll_out(services.policy(folder), prompts, requests, on_progress=on_progress)
        return found.completions, found.scores

    return roll_out


def _setting(suite: SuiteConfig) -> dict[str, Any]:
    """What decides a measurement beside the checkpoint and the requests."""
    engine = suite.rollout.engine
    names = ("dtype", "max_model_len", "tensor_parallel_size", "enforce_eager")
    preference = suite.preference.folder
    return {
        "engine": {name: getattr(engine, name) for name in names} | {"gpu": suite.rollout.num_gpus_per_worker > 0},
        "episodes": to_dict(suite.rollout.episodes),
        "judge": judge_identity(suite.judge),
        "preference": None if preference is None else preference_identity(preference),
        "code": code_key(),
        "packages": package_versions(),
    }


@dataclass(frozen=True, slots=True)
class _Shelf:
    """The files of measurements, by key."""

    folder: Path
    checkpoint: str
    setting: Mapping[str, Any]

    def path(self, job: Job) -> Path:
        return self.folder / job_name(job, job_key(job, checkpoint=self.checkpoint, setting=self.setting))


@dataclass(frozen=True, slots=True)
class _Work:
    """Makes the measurements that are missing, one job at a time."""

    suite: SuiteConfig
    subject: Subject
    services: MeasuringServices
    progress: Progress
    shelf: _Shelf

    def all_of(self, jobs: Sequence[Job], title: str) -> list[Measurement]:
        """The measurements of all jobs in order; what has a file is read, the rest is sampled and written."""
        paths = [self.shelf.path(job) for job in jobs]
        missing = [(job, path) for job, path in zip(jobs, paths, strict=True) if not path.exists()]
        if not missing:
            self.progress.skip_stage(title, f"{len(jobs)} measurements, made before, reused")
            return [measurement_of_record(read_json(path)) for path in paths]
        for job, _ in missing:
            _require_room(job, self.suite.rollout.engine.max_model_len)
        total = sum(len(job.requests) for job in jobs)
        done = total - sum(len(job.requests) for job, _ in missing)
        self.progress.stage(title, total_steps=total, first_step=done)
        for job, path in missing:
            budget = "" if job.budget is None else f", budget {job.budget:,}"
            what = f"{job.benchmark}, {job.mode.replace('_', '-')}{budget}, seed {job.seed}"
            before = done

            def show(finished: int, tokens: int, before: int = before, what: str = what) -> None:
                self.progress.update(before + finished, benchmark=what, tokens=tokens)

            (found,) = measure(
                [job],
                roll_out=roll_out_of(self.services, self.subject.folder),
                tokenizer=self.services.tokenizer(self.subject.folder),
                on_progress=show,
            )
            write_json(path, measurement_record(found))
            done += len(job.requests)
        return [measurement_of_record(read_json(path)) for path in paths]


def _require_room(job: Job, max_model_len: int) -> None:
    """Refuse a benchmark that cannot fit before an hour went into the ones that do."""
    longest = max(len(request.prompt_token_ids) for request in job.requests)
    if longest >= max_model_len:
        raise UserError(
            f"evaluation.benchmarks.{job.benchmark}: its longest prompt has {longest:,} tokens and "
            f"rollout.engine.max_model_len is {max_model_len:,}, which leaves no room for an answer; raise it, choose "
            f"lower levels, or leave the benchmark out with --skip {job.benchmark}"
        )


def results_document(
    suite: SuiteConfig, subject: Subject, measured: Sequence[Measurement], budgeted: Sequence[Measurement]
) -> dict[str, Any]:
    """All results as JSON: a row for each benchmark, mode and budget, categories, and the summary that reports read."""
    groups: dict[tuple[str, EvalMode, int | None], list[Measurement]] = {}
    for measurement in (*measured, *budgeted):
        groups.setdefault((measurement.benchmark, measurement.mode, measurement.budget), []).append(measurement)
    pooled = {place: pool(group, pass_at=suite.pass_at) for place, group in groups.items()}
    whole = list(dict.fromkeys((m.benchmark, m.mode, m.budget) for m in measured))
    found = {name: category_of(item) for name, item in suite.evaluation.benchmarks.items()}
    categories = {name: category for name, category in found.items() if category is not None}
    return {
        "checkpoint": subject.name,
        "checkpoint_sha256": subject.key,
        "suite": suite.name,
        "seeds": list(suite.seeds),
        "pass_at": list(suite.pass_at),
        "median_thinking_tokens": median_thinking_tokens(measured),
        "tokens": sum(measurement.num_tokens for measurement in (*measured, *budgeted)),
        "results": [result_dict(result) for result in pooled.values()],
        "categories": by_category([pooled[place] for place in whole], categories),
        "summary": summary_dict([benchmark_result(subject.name, groups[place]) for place in whole]),
        "packages": package_versions(),
        "rollouts": [dict(row) for measurement in measured[: len(whole)] for row in measurement.rollouts[:2]],
    }


def show(document: Mapping[str, Any], *, as_json: bool) -> None:
    """The results on standard output: JSON, tables on a terminal, Markdown anywhere else."""
    if as_json:
        print(json.dumps(document, ensure_ascii=False))
    elif sys.stdout.isatty():
        console = Console()
        for table in rich_tables(document):
            console.print(table)
    else:
        print(markdown_document(document), end="")
