"""The reinforcement-learning loop that reasoning RL and general RL share: sample, score, learn, publish.

One pass of the loop is the paper's step: G completions for each of P prompts from the current policy, a verifier's
score for each, group-relative advantages, uniform groups dropped, a few optimizer steps on minibatches of whole groups,
and the new weights sent to the engines, which then have to agree with the learner. With `max_staleness` above 0 the
engines sample on meanwhile (`stages.async_rollouts`), and the policy of some completions is a few steps old.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data.chat import parse_completion
from data.records import Prompt, ScoredGroup, StepResult, TrainingSample, UserError
from data.sample_rows import TokenPieces, rollout_row
from learner.advantages import AdvantageReport, training_samples
from learner.entropy_control import EntropyController, EntropyState
from learner.learner import LearnerConfig
from rewards.preference import group_diversity
from rewards.registry import get_task
from rollout.agent_loop import ended_counts
from rollout.groups import build_requests
from rollout.policy import SamplingConfig, sampling_for_training
from stages.async_rollouts import AsyncRollouts
from stages.rollout_collection import RolloutPlan, RolloutSource, SyncRollouts
from stages.services import Services
from stages.stage_context import StageContext
from stages.step_clock import with_rates
from stages.task_watch import TaskWatch, TaskWatchConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class EntropyControl:
    """Keeps the policy's entropy from falling below `target_share` of what the first step measured."""

    enabled: bool = True
    target_share: float = 0.5
    gain: float = 0.005
    max_coef: float = 0.02

    def validate(self) -> None:
        if not self.target_share >= 0:
            raise UserError(f"target_share: {self.target_share} must be 0 or more")


@dataclass(frozen=True, kw_only=True, slots=True)
class RLConfig:
    """One RL run: `num_steps` rollout batches of `prompts_per_step` x `group_size` completions.

    `minibatches` optimizer steps are taken on each batch; all but the first are off-policy. `truncated` says what
    becomes of completions that ran out of room; `balance_tasks` gives every task of a batch the same root-mean-square
    advantage. `collapse_after` steps in a row with a mean reward under half of the best one so far stop the run.
    `max_staleness` 0 is synchronous and repeats exactly; with k above 0 sampling and learning overlap, and a completion
    is trained on at most k steps after the weights that sampled its oldest token.
    """

    num_steps: int = 40
    prompts_per_step: int = 32
    group_size: int = 8
    minibatches: int = 2
    max_staleness: int = 0
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    entropy: EntropyControl = field(default_factory=EntropyControl)
    truncated: str = "mask"
    balance_tasks: bool = False
    mode_gate: bool = False
    task_watch: TaskWatchConfig = field(default_factory=TaskWatchConfig)
    save_every: int = 5
    samples_per_step: int = 8
    collapse_after: int = 10

    def validate(self) -> None:
        for name in ("num_steps", "prompts_per_step", "minibatches", "save_every", "collapse_after"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: {getattr(self, name)} must be 1 or more")
        if self.group_size < 2:
            raise UserError(f"group_size: {self.group_size} gives no group to compare with; use 2 or more")
        if self.truncated not in ("mask", "score"):
            raise UserError(f"truncated: {self.truncated!r}; use mask or score")
        sampling_for_training(self.sampling)
        learner = self.learner
        if learner.adapter is not None:
            learner.adapter.check_for_rl()
        if self.minibatches > 1 and learner.objective.takes_proximal and learner.proximal_logprobs == "behavior":
            raise UserError(
                f"minibatches: {self.minibatches} steps on one batch need the policy from before the first; set "
                "learner.proximal_logprobs=recompute, or a loss without importance_cap, or minibatches=1"
            )
        if learner.objective.kl_coef:
            raise UserError(
                f"learner.loss: {learner.loss!r} has kl_coef {learner.objective.kl_coef:g}, and no stage holds a "
                "reference model; use learner.loss=custom with a learner.loss_config whose kl_coef is 0"
            )
        self._check_staleness()

    def _check_staleness(self) -> None:
        if self.max_staleness < 0:
            raise UserError(f"max_staleness: {self.max_staleness} must be 0 (synchronous) or more")
        loss = self.learner.objective
        # CISPO's detached, clipped ratio to the behavior policy is a truncated importance weight too.
        if self.max_staleness and loss.importance_cap is None and loss.surrogate != "cispo":
            raise UserError(
                f"max_staleness: {self.max_staleness} trains on completions of older weights, and this loss does not "
                "weight them back to the present policy; set importance_cap in learner.loss_config (the default loss "
                "has 2), or learner.loss=cispo, or max_staleness=0"
            )


def minibatch_samples(samples: Sequence[TrainingSample], count: int) -> list[list[TrainingSample]]:
    """At most `count` parts of whole groups, of nearly equal loss tokens, in order; empty parts are left out."""
    groups: dict[str, list[TrainingSample]] = {}
    for sample in samples:
        groups.setdefault(sample.uid.rsplit("/", 1)[0], []).append(sample)
    total = sum(sum(sample.loss_mask_T) for sample in samples)
    parts: list[list[TrainingSample]] = [[] for _ in range(count)]
    seen = 0
    for group in groups.values():
        parts[min(count - 1, seen * count // max(1, total))] += group
        seen += sum(sum(sample.loss_mask_T) for sample in group)
    return [part for part in parts if part]


def run_rl(
    prompts: Sequence[Prompt],
    config: RLConfig,
    start: Path,
    services: Services,
    context: StageContext,
) -> dict[str, float]:
    """Train the model of folder `start` with verifiable rewards; the learner then holds the result."""
    if not prompts:
        raise UserError(f"{context.stage}: no prompts are left after filtering; widen the tasks, levels or pass rates")
    loop = _Loop(prompts, config, start, services, context)
    metrics: dict[str, float] = {}
    context.begin_steps(loop.step, config.num_steps)
    try:
        for step in range(loop.step, config.num_steps):
            with context.traced(step + 1, services.learner, loop.pool):
                metrics = loop.run_step(step)
            done = step + 1
            if done % config.save_every == 0 and done < config.num_steps:
                context.save(done, services.learner.save_state, loop.state())
    finally:
        loop.rollouts.close()
    return metrics


class _Loop:
    """The parts of the loop that live from step to step."""

    def __init__(
        self, prompts: Sequence[Prompt], config: RLConfig, start: Path, services: Services, context: StageContext
    ) -> None:
        self.config, self.services, self.context = config, services, context
        self.clock = context.clock
        self.engine_peak_bytes = 0
        tokenizer, self.pool = services.tokenizer(start), services.policy(start)
        self.pieces = TokenPieces(tokenizer)
        total = config.num_steps * config.minibatches
        services.learner.load(start, replace(config.learner, total_steps=total), seed=context.seed)
        state = context.restore(services.learner.load_state)
        self.step = int(state.get("step", 0))
        self.controller = _controller(config, state.get("entropy_target"))
        self.entropy = EntropyState.from_json(state["entropy"]) if state.get("entropy") else None
        self.watch = TaskWatch.from_json(config.task_watch, state.get("tasks", {}))
        self.best_reward = float(state.get("best_reward", 0.0))
        self.low_steps = int(state.get("low_steps", 0))
        probe = build_requests(
            prompts[:4], tokenizer=tokenizer, group_size=1, sampling=config.sampling, run_seed=0, purpose="probe"
        )
        services.publish(version=self.step, probe_rows=[list(request.prompt_token_ids) for request in probe])
        plan = RolloutPlan(prompts, config, services, context, tokenizer)
        self.rollouts: RolloutSource = (
            AsyncRollouts(plan, self.pool, step=self.step, state=state.get("rollouts", {}))
            if config.max_staleness
            else SyncRollouts(plan, self.pool)
        )

    def state(self) -> dict[str, Any]:
        return {
            "entropy": self.entropy.to_json() if self.entropy else None,
            "entropy_target": self.controller.target if self.controller else None,
            "tasks": self.watch.to_json(),
            "best_reward": self.best_reward,
            "low_steps": self.low_steps,
            "rollouts": self.rollouts.state(),
        }

    def run_step(self, step: int) -> dict[str, float]:
        """One step: collect groups, drop uniform ones, learn, publish, record."""
        beside: dict[str, float] = {}  # what ran beside the step and is no phase of it
        groups = self.rollouts.collect(step, self.clock, beside)
        samples, report = training_samples(
            groups,
            temperature=self.config.sampling.temperature,
            std_normalise=self.config.learner.objective.std_normalise,
            truncated=self.config.truncated,  # type: ignore[arg-type]
            balance_tasks=self.config.balance_tasks,
        )
        metrics = self._learn(samples)
        metrics |= self._publish(step, groups)
        metrics |= _rollout_metrics(groups, report) | self.rollouts.metrics(step, groups)
        self._record(step, groups, metrics, beside)
        for line in self.watch.observe(report.tasks):
            self.context.progress.warn(f"{self.context.stage}: {line}")
        self._watch_collapse(metrics["reward"])
        return metrics

    def _learn(self, samples: list[TrainingSample]) -> dict[str, float]:
        """Optimizer steps on minibatches of whole groups; nothing to learn from is counted, not hidden."""
        if not samples:
            self.context.progress.warn(f"{self.context.stage}: every group was uniform; this step learned nothing")
            return {"empty_steps": 1.0}
        parts = minibatch_samples(samples, self.config.minibatches)
        coef = self.entropy.coef if self.entropy else None
        taken = self.rollouts.beside(lambda: self._optimizer_steps(parts, coef))
        for step in taken:
            self.clock.add_learner(step.timing)
        results = [dict(step.metrics) for step in taken]
        for result in results:
            if result["step_skipped"]:
                self.context.progress.warn(f"{self.context.stage}: non-finite gradient; optimizer step skipped")
        self._control_entropy(results[0].get("entropy", math.nan))
        metrics = _mean_metrics(results) | {"entropy_coef": coef or 0.0, "empty_steps": 0.0}
        # Synchronously the first minibatch is on-policy: its gap is rounding alone, the later ones' is staleness.
        return metrics | {name: results[0][name] for name in results[0] if name.startswith("engine_gap")}

    def _optimizer_steps(self, parts: Sequence[list[TrainingSample]], coef: float | None) -> list[StepResult]:
        learner = self.services.learner
        proximal: list[Any] = [None] * len(parts)
        if self.config.learner.proximal_logprobs == "recompute":
            temperature = self.config.sampling.temperature
            with self.clock.phase("proximal"):
                proximal = [
                    learner.logprobs(
                        [sample.token_ids_T for sample in part],
                        temperature=temperature,
                        loss_masks=[sample.loss_mask_T for sample in part],
                    )
                    for part in parts
                ]
        with self.clock.phase("learn"):
            return [
                learner.rl_step(part, entropy_coef=coef, proximal=rows)
                for part, rows in zip(parts, proximal, strict=True)
            ]

    def _control_entropy(self, entropy: float) -> None:
        if not self.config.entropy.enabled or not math.isfinite(entropy):
            return
        if self.controller is None:
            self.controller = _controller(self.config, self.config.entropy.target_share * entropy)
        assert self.controller is not None
        self.entropy = self.controller.update(self.entropy or self.controller.initial_state(), entropy)

    def _publish(self, step: int, groups: list[ScoredGroup]) -> dict[str, float]:
        rows = [
            [*group.scored[0].completion.prompt_token_ids, *group.scored[0].completion.token_ids]
            for group in groups[:4]
        ]
        check = self.rollouts.beside(
            lambda: self.services.publish(version=step + 1, probe_rows=rows, phase=self.clock.phase)
        )
        self.rollouts.published(step + 1)
        self.engine_peak_bytes = check.engine_peak_bytes
        return {"sync_gap_max": check.max_gap, "sync_gap_mean": check.mean_gap}

    def _record(
        self, step: int, groups: list[ScoredGroup], metrics: dict[str, float], beside: dict[str, float]
    ) -> None:
        context = self.context
        timing = with_rates(self.clock.lap(), metrics) | beside
        busy_s = timing.get("generate_s") or beside.get("generate_beside_s") or timing["step_s"]
        timing |= {
            "tokens_per_s": metrics["completion_tokens"] / busy_s,
            "engine_peak_bytes": float(self.engine_peak_bytes),
        }
        context.num_tokens += int(metrics["completion_tokens"])
        context.record(step + 1, metrics, timing)
        for group in groups[: self.config.samples_per_step]:
            context.samples.append(sample_row(context.stage, step + 1, group, 0, self.pieces))
        context.progress.update(
            step + 1,
            reward=metrics["reward"],
            entropy=metrics.get("entropy", math.nan),
            tokens_per_s=timing["tokens_per_s"],
        )

    def _watch_collapse(self, reward: float) -> None:
        self.best_reward = max(self.best_reward, reward)
        self.low_steps = self.low_steps + 1 if reward < 0.5 * self.best_reward else 0
        if self.low_steps >= self.config.collapse_after:
            raise UserError(
                f"{self.context.stage}: reward {reward:.3f} stayed under half of the best ({self.best_reward:.3f}) "
                f"for {self.low_steps} steps: the policy collapsed; lower learner.lr, or raise entropy.target_share"
            )


def sample_row(stage: str, step: int, group: ScoredGroup, index: int, pieces: TokenPieces) -> dict[str, Any]:
    """One rollout of a group with its score, to read."""
    scored = group.scored[index]
    return rollout_row(group.prompt, scored.completion, scored.score, stage=stage, step=step, pieces=pieces)


def _controller(config: RLConfig, target: float | None) -> EntropyController | None:
    if target is None or not config.entropy.enabled:
        return None
    return EntropyController(target=target, gain=config.entropy.gain, max_coef=config.entropy.max_coef)


def _rollout_metrics(groups: Sequence[ScoredGroup], report: AdvantageReport) -> dict[str, float]:
    scored = [item for group in groups for item in group.scored]
    rewards = [item.score.reward for item in scored if item.score.reward is not None]
    lengths = [item.completion.num_tokens for item in scored]
    turns = [len(item.completion.turns) for item in scored if item.completion.turns]
    ended = ended_counts([item.completion for item in scored])
    return {
        "reward": sum(rewards) / len(rewards) if rewards else math.nan,
        "verifier_errors": sum(item.score.outcome == "error" for item in scored),
        "completion_tokens": sum(lengths),
        "mean_length": sum(lengths) / len(lengths),
        "truncated_share": sum(item.completion.truncated for item in scored) / len(scored),
        **({"episode_turns": sum(turns) / len(turns)} if turns else {}),
        **{f"episodes/{reason}": count for reason, count in ended.items()},
        **{f"diversity/{task}": value for task, value in _diversities(groups).items()},
        **{f"batch/{name}": value for name, value in report.metrics().items()},
    }


def _diversities(groups: Sequence[ScoredGroup]) -> dict[str, float]:
    """How different the answers within a group are, for tasks that a preference model rates: a policy that has found
    one template keeps its reward while this falls towards 0.
    """
    found: dict[str, list[float]] = {}
    for group in groups:
        if get_task(group.prompt.task).reward_type == "preference_model":
            answers = [parse_completion(item.completion.text).answer for item in group.scored]
            found.setdefault(group.prompt.task, []).append(group_diversity(answers))
    return {task: sum(values) / len(values) for task, values in found.items()}


_SUMMED = ("num_tokens", "num_loss_tokens", "num_microbatches", "num_long_samples", "model_flops", "step_skipped")


def _mean_metrics(results: Sequence[dict[str, float]]) -> dict[str, float]:
    """Metrics of one rollout batch from those of its optimizer steps: counts summed, maxima kept, the rest averaged."""
    merged = {}
    for name in results[0]:
        values = [result[name] for result in results if name in result]
        if name in _SUMMED:
            merged[name] = sum(values)
        elif name.endswith("_max") or name in ("skipped_steps", "lr"):
            merged[name] = max(values)
        else:
            merged[name] = sum(values) / len(values)
    return merged
