"""Asynchronous rollouts: sampling beside learning, within the bound, nothing lost or repeated, resumable.

The engines are a clock: each poll is one tick, and a scripted number of ticks is what a completion takes.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from data.records import Completion, StepResult, TrainingSample, UserError, VersionSpan
from learner.learner import LearnerConfig
from learner.losses import LossConfig
from rollout.policy import EpisodeSetup, GenerationRequest
from stages.async_rollouts import AsyncRollouts
from stages.rl_loop import RLConfig, run_rl
from stages.rollout_collection import batch_of_step
from stages.services import Phase, SyncCheck, untimed
from stages.stage_context import StageContext
from tests.stages.stage_fakes import FakeLearner, FakeServices, prompts_of, rows_of, stage_context

PROMPTS = prompts_of("arithmetic", 10)
ANSWERS = {prompt.uid: prompt.reference["answer"] for prompt in PROMPTS}
NUM_STEPS, PER_STEP, GROUP = 8, 4, 4

Ticks = Callable[[GenerationRequest], int]


def quick(request: GenerationRequest) -> int:
    return 1


def one_long_in_a_batch(request: GenerationRequest) -> int:
    """The first sample of every fourth group takes as long as several steps."""
    ticket = int(request.prompt_uid.rsplit("@", 1)[1])
    return 12 if ticket % PER_STEP == 0 and request.sample_index == 0 else 1


class Engines:
    """Half of each group is right; the first token of a completion names the weights under which it began."""

    def __init__(self, ticks: Ticks, capacity: int = 1000) -> None:
        self.ticks, self.capacity = ticks, capacity
        self.version = self.num_polls = 0
        self.begun: list[str] = []
        self._running: list[tuple[GenerationRequest, int, int]] = []  # request, ticks left, version at its begin

    @property
    def num_in_flight(self) -> int:
        return len(self._running)

    def submit(self, requests: Sequence[GenerationRequest], *, episodes: Mapping[str, EpisodeSetup]) -> None:
        assert episodes == {}
        self.begun += dict.fromkeys(request.prompt_uid for request in requests)
        self._running += [(request, self.ticks(request), self.version) for request in requests]

    def poll(self, timeout_s: float) -> list[Completion]:
        self.num_polls += 1
        time.sleep(0.001)  # the learner's thread has to see every tick
        left = [(request, ticks - 1, version) for request, ticks, version in self._running]
        self._running = [item for item in left if item[1]]
        return [self._completion(request, version) for request, ticks, version in left if not ticks]

    def _completion(self, request: GenerationRequest, began: int) -> Completion:
        answer = ANSWERS[request.prompt_uid.rsplit("@", 1)[0]] + request.sample_index % 2
        new = [VersionSpan(self.version, 2, 3)] if self.version > began else []
        spans = (VersionSpan(began, 0, 2 if new else 3), *new)
        return Completion(
            request.prompt_uid, request.sample_index, (1, 2), (began, 7, 8), (-1.0,) * 3, (False,) * 3, "stop", spans,
            f"<think>\n{request.seed}\n</think>\n\n\\boxed{{{answer}}}",
        )  # fmt: skip


class TickingLearner(FakeLearner):
    """A step lasts as long as the engines need for some ticks; keeps the versions of what it was given."""

    def __init__(self, engines: Engines, ticks: int) -> None:
        super().__init__()
        self.engines, self.ticks = engines, ticks
        self.versions: list[list[int]] = []

    def rl_step(self, samples: Sequence[TrainingSample], **options: Any) -> StepResult:
        self.versions.append([sample.token_ids_T[2] for sample in samples])
        until = self.engines.num_polls + self.ticks
        while self.engines.num_in_flight and self.engines.num_polls < until:
            time.sleep(0.0001)
        return super().rl_step(samples, **options)


class AsyncServices(FakeServices):
    def __init__(self, ticks: Ticks = quick, *, learn_ticks: int = 3, capacity: int = 1000) -> None:
        super().__init__()
        self.pool = self.engines = Engines(ticks, capacity)  # type: ignore[assignment]
        self.learner = TickingLearner(self.engines, learn_ticks)

    def publish(self, *, version: int, probe_rows: Sequence[Sequence[int]], phase: Phase = untimed) -> SyncCheck:
        self.engines.version = version
        return super().publish(version=version, probe_rows=probe_rows, phase=phase)


def config(max_staleness: int, **changes: Any) -> RLConfig:
    settings = {
        "num_steps": NUM_STEPS, "prompts_per_step": PER_STEP, "group_size": GROUP, "minibatches": 1, "save_every": 2,
        "samples_per_step": 2, "learner": LearnerConfig(), "max_staleness": max_staleness,
    }  # fmt: skip
    return RLConfig(**(settings | changes))


def run(folder: Path, services: AsyncServices, settings: RLConfig) -> list[dict[str, Any]]:
    context: StageContext = stage_context(folder)[0]
    run_rl(PROMPTS, settings, Path("start"), services, context)  # type: ignore[arg-type]
    return rows_of(folder / "metrics.jsonl", drop=())


def trained_groups(learner: FakeLearner) -> Counter[str]:
    return Counter(uid.rsplit("/", 1)[0] for batch in learner.batches for uid in batch)


def synchronous_groups() -> Counter[str]:
    """How often each prompt is trained on by a synchronous run, in completions."""
    batches = [batch_of_step(PROMPTS, step, size=PER_STEP, seed=0) for step in range(NUM_STEPS)]
    return Counter(prompt.uid for batch in batches for prompt in batch for _ in range(GROUP))


@pytest.mark.parametrize("max_staleness", [1, 2, 4])
@pytest.mark.parametrize("ticks", [quick, one_long_in_a_batch, lambda request: 1 + request.seed % 9])
def test_no_completion_older_than_the_bound_is_ever_trained_on(
    tmp_path: Path, max_staleness: int, ticks: Ticks
) -> None:
    services = AsyncServices(ticks)
    rows = run(tmp_path, services, config(max_staleness))
    assert len(services.learner.versions) == NUM_STEPS
    for step, versions in enumerate(services.learner.versions):
        assert len(versions) == PER_STEP * GROUP
        assert min(versions) >= step - max_staleness
        assert rows[step]["staleness/max"] == step - min(versions)
        assert rows[step]["staleness/mean"] == pytest.approx(step - sum(versions) / len(versions))
        assert rows[step]["staleness/dropped_groups"] == 0
    # And every group of the synchronous run is trained on, exactly once.
    assert trained_groups(services.learner) == synchronous_groups()
    assert len(services.engines.begun) == len(set(services.engines.begun)) == NUM_STEPS * PER_STEP
    assert services.engines.num_in_flight == 0


def test_long_completions_are_carried_over_and_nobody_waits_for_them(tmp_path: Path) -> None:
    services = AsyncServices(one_long_in_a_batch, learn_ticks=3)
    rows = run(tmp_path, services, config(4))
    # A synchronous run waits 12 ticks and learns 3 of them in each of its steps.
    assert services.engines.num_polls < 0.65 * NUM_STEPS * (12 + 3)
    assert sum(row["staleness/carried_over"] for row in rows) >= 4
    for row in rows:
        older = row["staleness/older_tokens"]
        assert row["staleness/older_token_share"] == older / (3 * PER_STEP * GROUP)


def test_engines_sample_while_the_learner_learns(tmp_path: Path) -> None:
    services = AsyncServices(lambda request: 2, learn_ticks=4)
    rows = run(tmp_path, services, config(1))
    shares = [row["timing"]["hidden_share"] for row in rows]
    assert shares == [0.0, 0.0, *[1.0] * (NUM_STEPS - 2)]  # the first two batches begin before anything is learned
    assert rows[0]["timing"]["rollout_wait_s"] >= 0.002  # two ticks
    assert all(row["timing"]["rollout_wait_s"] < 0.002 for row in rows[1:])
    assert {"generate_beside_s", "learn_s", "sync_s", "step_s", "score_s"} <= rows[0]["timing"].keys()


def test_no_more_requests_are_in_flight_than_the_engines_can_run(tmp_path: Path) -> None:
    most = 0

    class Watched(Engines):
        def poll(self, timeout_s: float) -> list[Completion]:
            nonlocal most
            most = max(most, self.num_in_flight)
            return super().poll(timeout_s)

    services = AsyncServices()
    services.pool = services.engines = services.learner.engines = Watched(quick, capacity=9)  # type: ignore[assignment]
    run(tmp_path, services, config(3))
    assert most == 8  # two groups of four


@pytest.mark.parametrize("killed_at", [1, 2, 3, 5, 7])
def test_a_resumed_run_begins_anew_what_was_in_flight_and_trains_on_every_group_once(
    tmp_path: Path, killed_at: int
) -> None:
    class Killed(Exception):
        """Stands for kill -9."""

    class DyingLearner(TickingLearner):
        def rl_step(self, samples: Sequence[TrainingSample], **options: Any) -> StepResult:
            if self.num_steps == killed_at:
                raise Killed
            return super().rl_step(samples, **options)

    cut = AsyncServices(one_long_in_a_batch)
    cut.learner = DyingLearner(cut.engines, 3)
    with pytest.raises(Killed):
        run(tmp_path, cut, config(2))
    resumed = AsyncServices(one_long_in_a_batch)
    rows = run(tmp_path, resumed, config(2))
    first = killed_at // 2 * 2
    kept = Counter(uid.rsplit("/", 1)[0] for batch in cut.learner.batches[:first] for uid in batch)
    assert kept + trained_groups(resumed.learner) == synchronous_groups()
    for step, versions in enumerate(resumed.learner.versions, start=first):
        assert min(versions) >= max(first, step - 2)  # none of the completions that were lost
    assert [row["step"] for row in rows] == list(range(1, NUM_STEPS + 1))


def test_groups_that_engines_lose_stop_the_run(tmp_path: Path) -> None:
    class Forgetful(Engines):
        def submit(self, requests: Sequence[GenerationRequest], *, episodes: Mapping[str, EpisodeSetup]) -> None:
            self.begun += dict.fromkeys(request.prompt_uid for request in requests)

    services = AsyncServices()
    services.pool = Forgetful(quick)  # type: ignore[assignment]
    with pytest.raises(RuntimeError, match="step 0 has too few groups, none is in flight and none may begin"):
        run(tmp_path, services, config(1))


def test_without_staleness_the_synchronous_collection_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AsyncRollouts, "__init__", lambda *_, **__: pytest.fail("asynchronous"))
    services = FakeServices(lambda request: f"\\boxed{{{ANSWERS[request.prompt_uid] + request.sample_index % 2}}}")
    run_rl(PROMPTS, config(0), Path("start"), services, stage_context(tmp_path)[0])  # type: ignore[arg-type]
    assert [len(call) for call in services.pool.calls] == [PER_STEP * GROUP] * NUM_STEPS


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_staleness": -1}, "max_staleness: -1 must be 0 (synchronous) or more"),
        (
            {"learner": LearnerConfig(loss="custom", loss_config=LossConfig(importance_cap=None))},
            "max_staleness: 1 trains on completions of older weights, and this loss does not weight them back",
        ),
        ({"learner": LearnerConfig(loss="dapo")}, "max_staleness: 1 trains on completions of older weights"),
    ],
)
def test_a_loss_that_cannot_correct_for_old_weights_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        config(**({"max_staleness": 1} | changes)).validate()
    assert str(caught.value).startswith(message)


def test_losses_with_truncated_importance_weights_are_accepted() -> None:
    config(1).validate()
    config(1, learner=LearnerConfig(loss="cispo")).validate()
    config(2, minibatches=2, learner=LearnerConfig(proximal_logprobs="recompute")).validate()
    config(0, learner=LearnerConfig(loss="dapo")).validate()
