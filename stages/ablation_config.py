"""An ablation as it is declared: variants of one recipe, and the runs that follow from them, without running any.

    configs/ablations/NAME.yaml -> AblationConfig -> plan_ablation -> [PlannedRun], one for each variant and seed

Stage outputs are addressed by content, so what variants have in common shows as equal keys, and nothing here has to
know which settings belong to which stage.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from configs.load import ABLATIONS, find_recipe, load_changed, load_config
from data.records import UserError
from evals.evaluate import held_out_settings
from stages.pipeline import PlannedStage, plan_stages
from stages.run_config import STAGES, RunConfig
from stages.run_dir import RunDir

_NAME = re.compile(r"[A-Za-z0-9+][A-Za-z0-9_.+-]*")

_FIXED: Mapping[str, str] = {
    "seed": "list `seeds` of the ablation",
    "run_dir": "set `run_dir` of the ablation",
    "name": "the name of the variant serves",
    "stages": "use leave_out or until",
}
"""What a variant may not change, and what to do instead."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VariantConfig:
    """One variant: the recipe without the stages `leave_out`, up to and including `until`, with other settings.

    `set` is merged with the recipe's settings, key by key; `replace` takes the place of what the recipe has at a key,
    such as another mixture of data. Keys of both may be dotted. `against` names the variant that the table compares
    this one with; null: the one before. Settings of `evaluation` that leave the held-out prompts as they are (sampling,
    budgets, limits) change no stage, so that a variant of nothing else costs an evaluation.
    """

    leave_out: tuple[str, ...] = ()
    until: str | None = None
    set: dict[str, Any] = field(default_factory=dict)
    replace: dict[str, Any] = field(default_factory=dict)
    against: str | None = None

    def validate(self) -> None:
        for name in ("set", "replace"):
            for key in getattr(self, name):
                if mend := _FIXED.get(key.split(".")[0]):
                    raise UserError(f"{name}.{key}: a variant cannot change it; {mend}")
        for stage in (*self.leave_out, *([self.until] if self.until else [])):
            if stage not in STAGES:
                raise UserError(f"leave_out, until: {stage!r} is no stage; choose from {', '.join(STAGES)}")
        if "base" in self.leave_out:
            raise UserError(
                "leave_out: base is what all other stages start from; set base.import_from.folder to start from a "
                "model of yours"
            )
        if self.until in self.leave_out:
            raise UserError(f"until: {self.until!r} is left out; name the last stage that is to run")

    def stages_of(self, recipe: Sequence[str]) -> tuple[str, ...]:
        """The stages of this variant of a recipe with these stages; UserError for one that the recipe does not have."""
        for name, stages in (("leave_out", self.leave_out), ("until", (self.until,) if self.until else ())):
            for stage in stages:
                if stage not in recipe:
                    raise UserError(f"{name}: {stage!r} is no stage of the recipe, which has {', '.join(recipe)}")
        last = recipe.index(self.until) if self.until else len(recipe) - 1
        return tuple(stage for stage in recipe[: last + 1] if stage not in self.leave_out)


@dataclass(frozen=True, kw_only=True, slots=True)
class AblationConfig:
    """Variants of `recipe`, each run with every seed. `set` holds for all of them, the recipe's evaluation included.

    `stages_of` is the folder of another ablation or run, whose stage outputs are used and added to; null: this one has
    its own. With `separate_scores` the table also has lines for the parts of a benchmark's score (`evals.part_scores`).
    The table's intervals have this `confidence`; a difference is significant when its p-value, corrected for all
    differences of the table, is at most `alpha`. The smallest p-value is 2 / (`num_resamples` + 1), so that a table
    of m differences needs more than 2 m / `alpha` resamples.
    """

    name: str
    recipe: str
    run_dir: str = "runs/ablate-${name}"
    stages_of: str | None = None
    seeds: tuple[int, ...] = (0,)
    set: dict[str, Any] = field(default_factory=dict)
    variants: dict[str, VariantConfig]
    confidence: float = 0.95
    alpha: float = 0.05
    num_resamples: int = 20_000
    separate_scores: bool = False

    def validate(self) -> None:
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise UserError(f"seeds: {list(self.seeds)} must be one or more different numbers")
        if not self.variants:
            raise UserError("variants: name at least one, such as full: {}")
        for key in self.set:
            if key.split(".")[0] in ("seed", "run_dir", "name", "stages"):
                raise UserError(f"set.{key}: not for all variants at once; {_FIXED[key.split('.')[0]]}")
        earlier: list[str] = []
        for name, variant in self.variants.items():
            if not _NAME.fullmatch(name):
                raise UserError(f"variants.{name}: it names a folder; use letters, digits and _ . + -")
            if variant.against is not None and variant.against not in earlier:
                raise UserError(
                    f"variants.{name}.against: {variant.against!r} is no variant before it; before it stand "
                    f"{', '.join(earlier) or 'none'}"
                )
            earlier.append(name)
        for field_name in ("confidence", "alpha"):
            if not 0 < getattr(self, field_name) < 1:
                raise UserError(f"{field_name}: {getattr(self, field_name)} must lie between 0 and 1")
        if self.num_resamples < 1:
            raise UserError(f"num_resamples: {self.num_resamples} must be 1 or more")

    @property
    def stages_home(self) -> RunDir:
        """The run directory that holds the stage outputs of all variants."""
        return RunDir(RunDir(self.stages_of or self.run_dir).shared_path)

    def baseline(self, variant: str) -> str | None:
        """The variant that this one is compared with; None for the first."""
        names = list(self.variants)
        position = names.index(variant)
        return self.variants[variant].against or (names[position - 1] if position else None)


def load_ablation(name_or_path: str | Path, overrides: Sequence[str]) -> AblationConfig:
    """A shipped ablation or one of the user's, with `key=value` settings such as `seeds=[0,1]` or `recipe=own-data`."""
    return load_config(AblationConfig, [find_recipe(name_or_path, folder=ABLATIONS, kind="ablation")], overrides)


# ---- the runs that follow


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One variant with one seed: its whole configuration, and its stages with their keys."""

    variant: str
    seed: int
    config: RunConfig
    stages: tuple[PlannedStage, ...]

    @property
    def title(self) -> str:
        return f"{self.variant}, seed {self.seed}"

    @property
    def run_dir(self) -> RunDir:
        return RunDir(self.config.run_dir)


def plan_ablation(config: AblationConfig) -> list[PlannedRun]:
    """The runs in the order in which they are made: seed by seed, and within a seed variant by variant.

    In this order neighbours share most, and engines only have to start anew for another seed's base model. Raises
    UserError naming the variant when its settings cannot work or its last checkpoint would not be evaluated.
    """
    recipe = load_config(RunConfig, [find_recipe(config.recipe)], [])
    recipe = load_changed(recipe, config.set, source=f"ablation {config.name}, set")
    variants = {name: _variant_config(config, recipe, name) for name in config.variants}
    return [_planned_run(config, variants[name], name, seed) for seed in config.seeds for name in config.variants]


def _variant_config(config: AblationConfig, recipe: RunConfig, name: str) -> RunConfig:
    variant = config.variants[name]
    try:
        stages = variant.stages_of(recipe.stages)
        changes = {"stages": list(stages), **variant.set}
        changed = load_changed(recipe, changes, replaced=variant.replace, source=f"ablation {config.name}")
    except UserError as error:
        raise UserError(f"variants.{name}: {error}") from error
    if stages[0] != "base":
        raise UserError(f"recipe: the stages of {config.recipe!r} start with {stages[0]!r}; an ablation starts at base")
    if not changed.evaluation.benchmarks_at(stages[-1]):
        raise UserError(
            f"variants.{name}: it ends with {stages[-1]}, on which nothing is measured; add the stage to "
            "set.evaluation.stages and to the `stages` of a benchmark, or end the variant with another stage"
        )
    if held_out_settings(changed.evaluation) != held_out_settings(recipe.evaluation):
        raise UserError(
            f"variants.{name}: evaluation: it has other held-out prompts, which every stage keeps out of its data, so "
            "that no stage would be shared and no score paired; set task, file, levels and num_prompts of a benchmark, "
            "seed and decontamination_ngram under `set` of the ablation"
        )
    return changed


def _planned_run(config: AblationConfig, changed: RunConfig, name: str, seed: int) -> PlannedRun:
    folder = Path(config.run_dir) / "variants" / f"{name}-seed{seed}"
    final = dataclasses.replace(changed, name=f"{config.name}-{name}", run_dir=str(folder), seed=seed)
    return PlannedRun(name, seed, final, tuple(plan_stages(final, config.stages_home, final.stages)))


# ---- what there is to do


StageState = Literal["done", "begun", "to do", "shared"]


@dataclass(frozen=True, slots=True)
class PlannedOutput:
    """One stage of one run: whether its output is there, begun, made by an earlier run of the plan, or to do."""

    run: PlannedRun
    stage: PlannedStage
    state: StageState
    maker: PlannedRun

    def row(self) -> dict[str, Any]:
        """A row of the plan as it is printed; `made_by` is the first run of the plan that has this stage."""
        return {
            "variant": self.run.variant,
            "seed": self.run.seed,
            "stage": self.stage.name,
            "key": self.stage.key[:12],
            "state": self.state,
            "made_by": "" if self.maker is self.run else self.maker.title,
        }


def planned_outputs(plan: Sequence[PlannedRun]) -> list[PlannedOutput]:
    """Every stage of every run in order; "shared" are those that an earlier run of the plan has to make first."""
    makers: dict[str, PlannedRun] = {}
    outputs = []
    for run in plan:
        for stage in run.stages:
            maker = makers.setdefault(stage.key, run)
            outputs.append(PlannedOutput(run, stage, _state(stage, shared=maker is not run), maker))
    return outputs


def _state(stage: PlannedStage, *, shared: bool) -> StageState:
    if stage.checkpoint_folder.exists():
        return "done"
    if shared:
        return "shared"
    return "begun" if stage.folder.exists() else "to do"


def plan_summary(outputs: Sequence[PlannedOutput]) -> str:
    """The counts of a plan in one line."""
    keys = {output.stage.key for output in outputs}
    done = {output.stage.key for output in outputs if output.state == "done"}
    num_runs = len({output.run.title for output in outputs})
    return (
        f"{num_runs} runs with {len(outputs)} stages, of which {len(keys)} are different: {len(done)} done, "
        f"{len(keys) - len(done)} to do, {len(outputs) - len(keys)} shared"
    )
