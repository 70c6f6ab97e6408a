"""A suite: what `fourstage eval` measures a checkpoint on, from a YAML file in `configs/evals` or of the user's own.

The evaluation of a pipeline is the same `EvaluationConfig` inside a recipe; a suite adds seeds, pass@k, budgets in
tokens and the machines, since no recipe is there to name them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

from configs.load import SUITES, find_recipe, load_config
from data.records import UserError
from evals.evaluate import EvaluationConfig
from learner.placement import LearnerPlacement
from rewards.judge import JudgeConfig
from rewards.preference import PreferenceConfig
from rollout.config import RolloutConfig
from stages.run_config import RayConfig, VerifierConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class SuiteConfig:
    """One suite. Every seed samples all benchmarks once; samples of a prompt are pooled over seeds.

    `pass_at` are the k of pass@k. `budgets` are thinking budgets in tokens and `evaluation.budget_shares` budgets as
    shares of the median thinking length, both measured on `evaluation.budget_benchmarks`.
    """

    name: str
    seeds: tuple[int, ...] = (0,)
    pass_at: tuple[int, ...] = (1,)
    budgets: tuple[int, ...] = ()
    evaluation: EvaluationConfig
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    verifiers: VerifierConfig = field(default_factory=VerifierConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    preference: PreferenceConfig = field(default_factory=PreferenceConfig)
    ray: RayConfig = field(default_factory=RayConfig)

    def validate(self) -> None:
        if not self.evaluation.benchmarks:
            raise UserError("evaluation.benchmarks: name at least one benchmark")
        for name in ("seeds", "pass_at", "budgets"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise UserError(f"{name}: {list(values)} names one twice")
        if not self.seeds:
            raise UserError("seeds: give at least one, such as [0]")
        if any(budget < 0 for budget in self.budgets):
            raise UserError(f"budgets: {list(self.budgets)} must be 0 or more tokens")
        if self.budgets and not self.evaluation.budget_benchmarks:
            raise UserError(f"budgets: {list(self.budgets)} need evaluation.budget_benchmarks to be measured on")
        most = len(self.seeds) * max(item.num_samples for item in self.evaluation.benchmarks.values())
        for k in self.pass_at:
            if not 1 <= k <= most:
                raise UserError(
                    f"pass_at: {k} needs {max(k, 1)} samples of a prompt, and there are {most}; raise num_samples of a "
                    "benchmark, or give more seeds"
                )
        self._check_stages()

    def _check_stages(self) -> None:
        """A suite measures one checkpoint: what says which stages are measured would be ignored."""
        for name, benchmark in self.evaluation.benchmarks.items():
            if benchmark.stages is not None:
                raise UserError(f"evaluation.benchmarks.{name}.stages: a suite has no stages; leave it out")
        for item in dataclasses.fields(EvaluationConfig):
            if item.name in ("stages", "decontamination_ngram"):
                value = getattr(self.evaluation, item.name)
                if value != item.default:
                    raise UserError(f"evaluation.{item.name}: a suite trains no stage; leave it out")

    @property
    def seed(self) -> int:
        """What seeds a judge's fence."""
        return self.seeds[0]

    @property
    def learner(self) -> LearnerPlacement:
        """Nothing is trained, so no learner is ever started."""
        return LearnerPlacement()

    @property
    def embedded_preference(self) -> None:
        """No preference model is trained on the way; `preference.folder` has to name one."""
        return None


def load_suite(
    name_or_path: str, overrides: Sequence[str], *, only: Sequence[str] = (), skip: Sequence[str] = ()
) -> SuiteConfig:
    """A shipped suite or a YAML file of the user's with `key=value` overrides, cut down to `only` without `skip`.

    Raises UserError for a benchmark that the suite does not have, or when none is left.
    """
    suite = load_config(SuiteConfig, [find_recipe(name_or_path, folder=SUITES, kind="suite")], overrides)
    known = suite.evaluation.benchmarks
    for option, names in (("--only", only), ("--skip", skip)):
        for name in names:
            if name not in known:
                raise UserError(f"{option}: {name!r} is no benchmark of suite {suite.name!r} ({', '.join(known)})")
    if not only and not skip:
        return suite
    left = {name: item for name, item in known.items() if name not in skip and (not only or name in only)}
    if not left:
        raise UserError(f"--only, --skip: no benchmark of suite {suite.name!r} is left")
    budgeted = tuple(name for name in suite.evaluation.budget_benchmarks if name in left)
    evaluation = dataclasses.replace(suite.evaluation, benchmarks=left, budget_benchmarks=budgeted)
    cut = dataclasses.replace(suite, evaluation=evaluation, budgets=suite.budgets if budgeted else ())
    cut.validate()
    return cut
