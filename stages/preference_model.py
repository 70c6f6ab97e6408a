"""Trains a preference model for general RL, and starts one: `fourstage preference-model`, and its use in a run.

    pairs (a user's file, or generated) -> split by prompt -> learner.preference_trainer -> length calibration on the
    held-out pairs -> a Hugging Face folder with preference_model.json

The report names a preference model among its reward types (arXiv 2505.09388, section 4.4) and says no more of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.files import read_json, write_json
from data.model_folder import require_model_folder
from data.preference import PREFERENCE_MANIFEST, PreferencePair, pairs_hash, read_pairs, split_by_prompt
from data.records import UserError
from learner.checkpoint import MANIFEST, FileRecord, atomic_folder, check_files, hash_files, read_manifest
from learner.preference_trainer import FittedPreferenceModel, PreferenceTrainingConfig, fit_preference_model
from rewards.preference import (
    LengthCalibration,
    LengthControlledPreference,
    PairAccuracy,
    PreferenceConfig,
    fit_length_calibration,
    pair_accuracy,
    read_calibration,
)
from rewards.preference_pairs import TASKS, generate_pairs
from rollout.config import PoolingConfig
from stages.progress import Progress

if TYPE_CHECKING:
    from rollout.pooling_workers import PreferencePool

_WEAK_ACCURACY = 0.6
"""Below it on held-out pairs a warning is shown: such a model rewards little but noise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PreferenceModelConfig:
    """What a preference model is trained on, and how.

    `pairs` is a JSON Lines file of `{"messages", "chosen", "rejected"}`; without it `num_pairs` pairs of the `tasks`
    are generated at the level `difficulty`.
    """

    pairs: str | None = None
    tasks: tuple[str, ...] = tuple(TASKS)
    num_pairs: int = 4000
    difficulty: int = 0
    train: PreferenceTrainingConfig = field(default_factory=PreferenceTrainingConfig)

    def validate(self) -> None:
        """Raise UserError naming the first field that cannot work."""
        if self.num_pairs < 20:
            raise UserError(f"num_pairs: {self.num_pairs} leaves too few to hold out; use 20 or more")
        if self.difficulty < 0:
            raise UserError(f"difficulty: {self.difficulty} must be 0 or more")
        for name in self.tasks:
            if name not in TASKS:
                raise UserError(f"tasks: {name!r} has no generator of preference pairs; use {', '.join(sorted(TASKS))}")
        if not self.tasks:
            raise UserError(f"tasks: empty; name one or more of {', '.join(sorted(TASKS))}")


def train_preference_model(
    config: PreferenceModelConfig, start: Path, out: Path, *, seed: int, progress: Progress
) -> dict[str, Any]:
    """Train from the policy in `start`, write the folder `out` atomically, and return its manifest.

    `progress` shows one stage. The same arguments give the same weights. Raises UserError when `out` exists, for pairs
    and folders that cannot be used, and for a model that tells no answers apart.
    """
    config.validate()
    config.train.validate()
    start, out = Path(start), Path(out)
    if out.exists():
        raise UserError(f"OUT: {out} exists; choose a folder that does not")
    require_model_folder(start)
    pairs = _pairs(config, seed)
    train, held_out = split_by_prompt(pairs, config.train.held_out_share, seed=seed)
    progress.say(f"{len(train):,} pairs to train on, {len(held_out):,} held out; prompts are on one side only")
    fitted = _fit(start, train, held_out, config.train, seed, progress)
    chosen, rejected = [pair.chosen for pair in held_out], [pair.rejected for pair in held_out]
    accuracy = pair_accuracy(fitted.chosen_scores, fitted.rejected_scores, chosen, rejected)
    calibration = fit_length_calibration(fitted.chosen_scores, fitted.rejected_scores, chosen, rejected)
    if accuracy.all < _WEAK_ACCURACY:
        progress.warn(
            f"the preference model orders only {accuracy.all:.0%} of the held-out pairs rightly, chance is 50%; train "
            "it longer, on more pairs, or from a better checkpoint"
        )
    manifest = {
        "parent": {"path": str(start), "key": _parent_key(start)},
        "pairs": {
            "source": config.pairs or "generated", "sha256": pairs_hash(pairs), "num_train": len(train),
            "num_held_out": len(held_out), "tasks": _num_of_tasks(pairs),
        },
        "seed": seed,
        "training": asdict(config.train) | {"num_steps": fitted.num_steps},
        "max_length": fitted.max_length,
        "held_out": _figures(accuracy, fitted),
        "calibration": calibration.as_json(),
    }  # fmt: skip
    with atomic_folder(out) as partial:
        fitted.save(partial)
        files = {name: asdict(record) for name, record in hash_files(partial).items()}
        manifest["files"] = files
        write_json(partial / PREFERENCE_MANIFEST, manifest)
    return manifest


def _pairs(config: PreferenceModelConfig, seed: int) -> list[PreferencePair]:
    if config.pairs is not None:
        return read_pairs(config.pairs)
    return generate_pairs(config.num_pairs, seed=seed, tasks=config.tasks, difficulty=config.difficulty)


def _fit(
    start: Path,
    train: list[PreferencePair],
    held_out: list[PreferencePair],
    config: PreferenceTrainingConfig,
    seed: int,
    progress: Progress,
) -> FittedPreferenceModel:
    running: dict[str, float] = {}

    def on_step(step: int, num_steps: int, figures: dict[str, float]) -> None:
        if step == 1:
            progress.stage("preference model", num_steps)
        for name, value in figures.items():  # one batch alone jumps about
            running[name] = value if name == "lr" else 0.9 * running.get(name, value) + 0.1 * value
        progress.update(step, **running)

    return fit_preference_model(start, train, held_out, config, seed=seed, on_step=on_step)


def _parent_key(start: Path) -> str | None:
    return read_manifest(start).key if (start / MANIFEST).is_file() else None


def _num_of_tasks(pairs: list[PreferencePair]) -> dict[str, int]:
    names = [pair.task or "unnamed" for pair in pairs]
    return {name: names.count(name) for name in sorted(set(names))}


def _figures(accuracy: PairAccuracy, fitted: FittedPreferenceModel) -> dict[str, float | None]:
    return {
        "accuracy": accuracy.all,
        "accuracy_chosen_longer": accuracy.chosen_longer,
        "accuracy_chosen_shorter": accuracy.chosen_shorter,
        "loss": fitted.held_out_loss,
    }


def result_rows(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The result of a training for people: figure, value, and what it means."""
    held_out, calibration = manifest["held_out"], manifest["calibration"]
    num = manifest["pairs"]["num_held_out"]
    meanings = [
        ("held-out accuracy", held_out["accuracy"], f"pairs ordered rightly, of {num}; chance is 0.5"),
        ("… better answer longer", held_out["accuracy_chosen_longer"], "much above the next line: it likes length"),
        ("… better answer shorter", held_out["accuracy_chosen_shorter"], ""),
        ("held-out loss", held_out["loss"], "nats a pair; knowing nothing costs 0.693"),
        ("length slope", calibration["fitted_slope"], "raw score per unit of log length, at equal quality"),
        ("… taken out", calibration["slope"], "the slope, or 0 when it is below 0"),
        ("score deviation", calibration["std"], "raw scores are divided by it before they are squashed"),
    ]
    return [
        {"figure": name, "value": "none" if value is None else f"{value:.3f}", "meaning": meaning}
        for name, value, meaning in meanings
    ]


@dataclass(frozen=True, slots=True)
class RunningPreference:
    """A preference model that answers: `rating` is what the scorer asks, `close` ends its process."""

    rating: LengthControlledPreference
    pool: PreferencePool

    def close(self) -> None:
        self.pool.close()


def start_preference_model(config: PreferenceConfig, *, log_folder: Path) -> RunningPreference:
    """Check the folder against its manifest and start its engine; Ray has to be running.

    Raises UserError when no folder is set, or when a file of it is missing or altered.
    """
    if config.folder is None:
        raise UserError("preference.folder: null; give a folder that `fourstage preference-model` wrote")
    calibration = check_preference_folder(config.folder)
    from rollout.pooling_workers import PreferencePool

    pooling = PoolingConfig(
        dtype="bfloat16" if config.dtype == "bfloat16" else "float32",
        num_threads=config.num_threads,
        num_gpus=config.num_gpus,
        start_timeout_s=config.start_timeout_s,
        answer_timeout_s=config.answer_timeout_s,
    )
    pool = PreferencePool(config.folder, pooling, log_folder=log_folder)
    return RunningPreference(LengthControlledPreference(pool, calibration), pool)


def check_preference_folder(folder: str | Path) -> LengthCalibration:
    """The calibration of a preference model whose files are all as they were written; UserError names what is not."""
    calibration = read_calibration(folder)
    files = read_json(Path(folder) / PREFERENCE_MANIFEST).get("files", {})
    check_files(Path(folder), {name: FileRecord(**record) for name, record in files.items()})
    return calibration


def preference_identity(folder: str | Path) -> str:
    """What of a preference model a stage's key hangs on: the hash of its weights and its calibration, not its place."""
    manifest = read_json(Path(folder) / PREFERENCE_MANIFEST)
    weights = {name: record["sha256"] for name, record in manifest["files"].items() if name.endswith(".safetensors")}
    return json.dumps([weights, manifest["calibration"], manifest["max_length"]], sort_keys=True)
