"""What a stage is handed, made small: a learner that counts, a policy that is a function, and verifiers in process.

They keep the interfaces of `learner.workers.RemoteLearner`, `rollout.workers.RolloutPool` and
`stages.services.Services`, so that the loops run in milliseconds without Ray or an engine.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from data.episodes import EpisodeLimits
from data.records import Completion, FinishReason, Prompt, Score, StepResult, TrainingSample, VersionSpan
from rewards.registry import get_task
from rewards.scorer import Scorer
from rewards.task import ScoreRequest, make_prompt
from rewards.verifier_pool import VerifierPool
from rollout.agent_loop import run_to_end
from rollout.policy import EpisodeSetup, GenerationRequest
from stages.progress import Progress
from stages.rollouts import Rollouts, roll_out, setups_of
from stages.services import Phase, SyncCheck, untimed
from stages.stage_context import StageContext
from tests.data.byte_tokenizer import byte_tokenizer


def quiet_progress() -> tuple[Progress, io.StringIO]:
    """A plain progress display and the stream that it writes to."""
    stream = io.StringIO()
    return Progress(1, True, stream=stream), stream


def prompts_of(task: str, count: int, *, level: int = 0, seed: int = 0) -> list[Prompt]:
    return [make_prompt(get_task(task), seed=seed, index=index, difficulty=level) for index in range(count)]


def completion(
    prompt: Prompt, text: str, *, index: int = 0, finish: FinishReason = "stop", ids: Sequence[int] | None = None
) -> Completion:
    """A completion with one token a character and log-probability -1 each."""
    tokens = tuple(ids) if ids is not None else tuple(ord(letter) % 256 for letter in text) or (0,)
    return Completion(
        prompt_uid=prompt.uid,
        sample_index=index,
        prompt_token_ids=(1, 2),
        token_ids=tokens,
        logprobs=(-1.0,) * len(tokens),
        forced=(False,) * len(tokens),
        finish_reason=finish,
        weight_versions=(VersionSpan(0, 0, len(tokens)),),
        text=text,
    )


Answer = Callable[[GenerationRequest], str]


class FakePolicy:
    """Answers each request with what `answer` makes of it; remembers the requests of every call."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.calls: list[list[GenerationRequest]] = []
        self._waiting: list[GenerationRequest] = []

    def generate(self, requests: Sequence[GenerationRequest], **options: Any) -> list[Completion]:
        self.calls.append(list(requests))
        return run_to_end(self, requests, tokenizer=byte_tokenizer(), **options)

    @property
    def num_pending(self) -> int:
        return len(self._waiting)

    def submit(self, request: GenerationRequest) -> None:
        self._waiting.append(request)

    def step(self) -> list[Completion]:
        """Whole turns of all requests at once."""
        waiting, self._waiting = self._waiting, []
        return [self._completion(request) for request in waiting]

    def _completion(self, request: GenerationRequest) -> Completion:
        text = self.answer(request)
        tokens = tuple(text.encode()) or (0,)
        return Completion(
            prompt_uid=request.prompt_uid,
            sample_index=request.sample_index,
            prompt_token_ids=request.prompt_token_ids,
            token_ids=tokens,
            logprobs=(-1.0,) * len(tokens),
            forced=(False,) * len(tokens),
            finish_reason="stop",
            weight_versions=(VersionSpan(0, 0, len(tokens)),),
            text=text,
        )


class FakeLearner:
    """Its weight is the history of what it was given; a restored one goes on from there."""

    def __init__(self) -> None:
        self.weight = self.num_steps = 0
        self.loaded: list[tuple[str, Any, int]] = []
        self.batches: list[list[str]] = []
        self.proximal: list[Any] = []
        self.entropy_coefs: list[float | None] = []
        self.skip = False

    def load(self, folder: str | Path, config: Any, *, seed: int) -> None:
        self.weight = self.num_steps = 0
        self.loaded.append((str(folder), config, seed))

    def _step(self, samples: Sequence[TrainingSample]) -> StepResult:
        self.batches.append([sample.uid for sample in samples])
        self.num_steps += 1
        self.weight = random.Random(f"{self.weight}/{self.batches[-1]}").getrandbits(40)
        tokens = sum(len(sample.token_ids_T) for sample in samples)
        metrics = {
            "loss": self.weight / 2**40,
            "entropy": 1.0 - self.weight / 2**41,
            "num_tokens": float(tokens),
            "num_loss_tokens": float(sum(sum(sample.loss_mask_T) for sample in samples)),
            "step_skipped": float(self.skip),
            "skipped_steps": float(self.skip),
            "ratio_max": 1.0 + self.num_steps / 100,
            "engine_gap_max": float(self.num_steps),
            "lr": 0.1 * self.num_steps,
        }
        return StepResult(self.num_steps, metrics)

    def sft_step(self, samples: Sequence[TrainingSample]) -> StepResult:
        return self._step(samples)

    def rl_step(
        self, samples: Sequence[TrainingSample], *, entropy_coef: float | None = None, proximal: Any = None
    ) -> StepResult:
        self.entropy_coefs.append(entropy_coef)
        self.proximal.append(proximal)
        return self._step(samples)

    def logprobs(
        self,
        rows: Sequence[Sequence[int]],
        *,
        temperature: float = 1.0,
        loss_masks: Sequence[Sequence[int]] | None = None,
    ) -> list[list[float]]:
        return [[-float(self.weight % 7)] * len(row) for row in rows]

    def weights_reference(self, *, max_lora_rank: int = 0) -> dict[str, int]:
        return {"weight": self.weight}

    def save_state(self, folder: str | Path) -> None:
        Path(folder).mkdir(parents=True)
        (Path(folder) / "weight.json").write_text(json.dumps([self.weight, self.num_steps]))

    def load_state(self, folder: str | Path) -> list[str]:
        self.weight, self.num_steps = json.loads((Path(folder) / "weight.json").read_text())
        return ["weight"]


class FakeServices:
    """The parts of `stages.services.Services` that the loops use."""

    def __init__(self, answer: Answer = lambda request: "") -> None:
        self.learner = FakeLearner()
        self.pool = FakePolicy(answer)
        self.published: list[tuple[int, int, int]] = []
        self.scorer = Scorer(VerifierPool())  # no worker starts: the rules of these tests decide inline
        self._tokenizer = byte_tokenizer()

    def tokenizer(self, folder: str | Path) -> Any:
        return self._tokenizer

    def policy(self, folder: str | Path) -> FakePolicy:
        return self.pool

    def publish(self, *, version: int, probe_rows: Sequence[Sequence[int]], phase: Phase = untimed) -> SyncCheck:
        with phase("sync"):
            self.published.append((version, self.learner.weight, len(probe_rows)))
        with phase("check"):
            return SyncCheck(1e-6, 1e-7)

    def roll_out(
        self,
        policy: FakePolicy,
        prompts: Sequence[Prompt],
        requests: Sequence[GenerationRequest],
        *,
        mode_gate: bool = False,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Rollouts:
        return roll_out(
            policy, prompts, requests,
            scorer=self.scorer, limits=EpisodeLimits(), max_model_len=4096,
            mode_gate=mode_gate, on_progress=on_progress,
        )  # fmt: skip

    def episode_setups(self, prompts: Sequence[Prompt]) -> dict[str, EpisodeSetup]:
        return setups_of(prompts, limits=EpisodeLimits(), max_model_len=4096)

    def check_error_share(self, scores: Sequence[Score], examples: Callable[[], list[str]]) -> None:
        assert all(score.outcome != "error" for score in scores), examples()

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        return self.scorer.score_all(requests)


def stage_context(folder: Path, stage: str = "reasoning_rl", *, seed: int = 0) -> tuple[StageContext, io.StringIO]:
    """A stage's files in `folder`, and the stream that its progress is written to."""
    progress, stream = quiet_progress()
    return StageContext(stage, folder, seed=seed, progress=progress), stream


def rows_of(path: Path, *, drop: Sequence[str] = ("timing",)) -> list[dict[str, Any]]:
    """The rows of a JSON Lines file without the fields that time decides."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in row.items() if name not in drop} for row in rows]
