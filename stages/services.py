"""What a stage is handed to work with: rollout pool, learner and verifiers, and where a run starts and ends them.

Everything starts when it is first needed, so a run whose stages are all finished starts nothing. `close` ends what was
started; no Ray, engine or verifier process is left behind.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import psutil

from data.model_folder import require_model_folder
from data.records import Completion, Message, Prompt, Score, UserError
from rewards.judge import Judge
from rewards.judge_endpoint import endpoint_judge
from rewards.preference import PreferenceConfig
from rewards.scorer import RatesConversations, Scorer
from rewards.task import ScoreRequest
from rewards.verifier_pool import VerifierPool
from rollout.policy import EpisodeSetup, GenerationRequest, Policy
from stages.judge_engine import EngineChatModel
from stages.progress import Progress
from stages.ray_daemons import end_ray, start_ray
from stages.rollouts import OnProgress, Rollouts, error_examples, roll_out, setups_of

if TYPE_CHECKING:
    from learner.workers import RemoteLearner
    from rollout.workers import RolloutPool
    from stages.preference_model import RunningPreference
    from stages.services_config import ServicesConfig


Phase = Callable[[str], contextlib.AbstractContextManager[None]]
"""Times the block as part of the phase of that name."""


def untimed(phase: str) -> contextlib.AbstractContextManager[None]:
    """A `Phase` that times nothing."""
    del phase
    return contextlib.nullcontext()


_PROBE_TOKENS = 64
"""So many tokens of a row show whether weights arrived; the gap of every sampled token is in the step's own metrics."""


@dataclass(frozen=True, slots=True)
class SyncCheck:
    """What the comparison of engine and learner after a weight sync found, in nats; and the engines' peak of memory."""

    max_gap: float
    mean_gap: float
    engine_peak_bytes: int = 0


class SyncError(RuntimeError):
    """The engine does not compute what the learner holds; the text names the tensors that differ."""


class Services:
    """The long-lived parts of a run."""

    def __init__(self, config: ServicesConfig, run_dir: Path, progress: Progress) -> None:
        self.config = config
        self.run_dir = run_dir
        self.progress = progress
        self.scorer = self._new_scorer()
        self.preference_folder = config.preference.folder
        self._preference: RunningPreference | None = None
        self._preference_settings: PreferenceConfig | None = None
        self._judge_pool: RolloutPool | None = None
        self._pool: RolloutPool | None = None
        self._learner: RemoteLearner | None = None
        self._ray_started = False
        self._ray_daemons: list[psutil.Process] = []
        self._pool_weights: str | None = None
        self._tokenizers: dict[str, Any] = {}
        self.num_generated_tokens = 0

    def serve(self, config: ServicesConfig, *, same_model: bool) -> None:
        """Go over to another run: end what it needs otherwise than the run before, keep the rest, start nothing.

        `same_model`: whether its models have the shape and tokenizer of the present one's. An engine is built for
        both and only takes other weights, so that without it the engines end.
        """
        before, self.config = self.config, config
        self.scorer.close()  # first, for its threads may still ask the judge
        if config.ray != before.ray:
            self.close()
        if config.rollout != before.rollout or not same_model:
            self._close_part("_pool")
        if config.rollout != before.rollout or config.judge != before.judge:
            self._close_part("_judge_pool")
        if config.learner != before.learner:
            self._close_part("_learner")
        self.scorer = self._new_scorer()
        self.preference_folder = config.preference.folder

    def _new_scorer(self) -> Scorer:
        verifiers = self.config.verifiers
        return Scorer(
            VerifierPool(num_workers=verifiers.num_workers, timeout_s=verifiers.timeout_s),
            judge=self._judge(),
            preference=_FirstAsked(self._start_preference),
        )

    # ---- parts

    def tokenizer(self, folder: str | Path) -> Any:
        """The tokenizer of a checkpoint folder, loaded once."""
        from transformers import AutoTokenizer

        key = str(folder)
        if key not in self._tokenizers:
            self._tokenizers[key] = AutoTokenizer.from_pretrained(key)
        return self._tokenizers[key]

    @property
    def learner(self) -> RemoteLearner:
        if self._learner is None:
            self._start_ray()
            from learner.workers import RemoteLearner

            self._learner = RemoteLearner(self.config.learner)
        return self._learner

    def policy(self, folder: str | Path) -> RolloutPool:
        """The rollout pool holding the weights of checkpoint `folder`."""
        pool = self._start_pool(folder)
        if self._pool_weights != str(folder):
            pool.update_weights(checkpoint_weights(folder), version=0)
            self._pool_weights = str(folder)
        return pool

    def sample_with_other_model(self, folder: str | Path, requests: Sequence[GenerationRequest]) -> list[Completion]:
        """Completions of the model in `folder`, such as a teacher, from engines that live for this call alone.

        Its vocabulary and shape may be others than the policy's, so it cannot be a weight update of the pool.
        """
        self._start_ray()
        from rollout.workers import RolloutPool

        self.progress.say(f"starting an engine for {folder}")
        pool = RolloutPool(folder, self.config.rollout, log_folder=self.run_dir / "logs" / "other")
        try:
            return pool.generate(requests, on_progress=None)
        finally:
            pool.close()

    def publish(self, *, version: int, probe_rows: Sequence[Sequence[int]], phase: Phase = untimed) -> SyncCheck:
        """Send the learner's weights to every engine, then compare log-probabilities (temperature 1) on the beginnings
        of `probe_rows`.

        `phase` times the two apart, as "sync" and "check". Raises SyncError naming the differing tensors when any
        token's gap passes `rollout.max_logprob_gap`.
        """
        assert self._pool is not None
        with phase("sync"):
            weights = self.learner.weights_reference(max_lora_rank=self.config.rollout.engine.max_lora_rank)
            self._pool.update_weights(weights, version=version)
            self._pool_weights = None
        with phase("check"):
            return self._check_sync(weights, version, [row[:_PROBE_TOKENS] for row in probe_rows])

    def _check_sync(self, weights: Any, version: int, rows: Sequence[Sequence[int]]) -> SyncCheck:
        assert self._pool is not None
        expected = self.learner.logprobs(rows)
        gaps = [
            abs(mine - theirs)
            for scored in self._pool.score(rows)
            for row, theirs_row in zip(expected, scored, strict=True)
            for mine, theirs in zip(row, theirs_row, strict=True)
        ]
        # NaN must stop the run as well, and `max` may pass over one.
        worst = math.nan if any(map(math.isnan, gaps)) else max(gaps, default=0.0)
        if not worst <= self.config.rollout.max_logprob_gap:
            names = self._pool.differing_tensors(weights)
            raise SyncError(
                f"weight sync {version}: engine and learner differ by {worst:.3g} nats on a token (limit "
                f"{self.config.rollout.max_logprob_gap:g}); tensors that differ: "
                f"{', '.join(names) or 'none: same weights, other arithmetic'}"
            )
        return SyncCheck(worst, sum(gaps) / max(1, len(gaps)), self._pool.peak_bytes)

    # ---- rollouts and scores

    def _judge(self) -> Judge | None:
        """The configured judge; one that is a model folder starts with its first question."""
        config = self.config.judge
        key = f"fourstage judge {self.config.seed}".encode()  # the fence repeats with the run, and no policy knows it
        if config.base_url:
            return endpoint_judge(config, nonce_key=key)
        if not config.folder:
            return None
        model = EngineChatModel(config, self._start_judge)
        limits = {"max_attempts": config.max_attempts, "max_response_chars": config.max_response_chars}
        return Judge(model, nonce_key=key, **limits)

    def _start_judge(self) -> tuple[Policy, Any]:
        folder = self.config.judge.folder
        if self._judge_pool is not None:
            return self._judge_pool, self.tokenizer(folder)
        require_model_folder(folder)
        self._start_ray()
        from rollout.workers import RolloutPool

        self.progress.say(f"starting an engine for the judge {folder}")
        engine = dataclasses.replace(self.config.rollout.engine, max_model_len=self.config.judge.max_model_len)
        settings = dataclasses.replace(self.config.rollout, num_workers=1, engine=engine)
        self._judge_pool = RolloutPool(folder, settings, log_folder=self.run_dir / "logs" / "judge")
        return self._judge_pool, self.tokenizer(folder)

    def _start_preference(self) -> RatesConversations:
        if self.preference_folder is None:
            raise UserError("preference.folder: null; a task needs a preference model (`fourstage preference-model`)")
        settings = dataclasses.replace(self.config.preference, folder=str(self.preference_folder))
        if self._preference is not None and settings == self._preference_settings:
            return self._preference.rating
        self._close_part("_preference")
        self._start_ray()
        from stages.preference_model import start_preference_model

        self.progress.say(f"starting an engine for the preference model {self.preference_folder}")
        self._preference_settings = settings
        self._preference = start_preference_model(settings, log_folder=self.run_dir / "logs")
        return self._preference.rating

    def roll_out(
        self,
        policy: Policy,
        prompts: Sequence[Prompt],
        requests: Sequence[GenerationRequest],
        *,
        mode_gate: bool = False,
        on_progress: OnProgress | None = None,
    ) -> Rollouts:
        """Sample and score `requests`, episodes included. With `mode_gate` the wrong mode earns nothing.

        Raises UserError with examples when more than the set share of verifications failed.
        """
        rollouts = roll_out(
            policy,
            prompts,
            requests,
            scorer=self.scorer,
            limits=self.config.rollout.episodes,
            max_model_len=self.config.rollout.engine.max_model_len,
            mode_gate=mode_gate,
            on_progress=on_progress,
        )
        self.check_error_share(rollouts.scores, lambda: error_examples(prompts, rollouts))
        return rollouts

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """Scores of answers that were not sampled here, such as a teacher's; raises UserError as `roll_out` does."""
        scores = self.scorer.score_all(requests)
        self.check_error_share(scores, lambda: sorted({s.reason for s in scores if s.outcome == "error"})[:3])
        return scores

    def episode_setups(self, prompts: Sequence[Prompt]) -> dict[str, EpisodeSetup]:
        """What makes episodes of the prompts whose task has an environment, by uid."""
        rollout = self.config.rollout
        return setups_of(prompts, limits=rollout.episodes, max_model_len=rollout.engine.max_model_len)

    def check_error_share(self, scores: Sequence[Score], examples: Callable[[], list[str]]) -> None:
        """Raise UserError with `examples` when more than the set share of verifications failed."""
        num_errors = sum(score.outcome == "error" for score in scores)
        if num_errors > self.config.verifiers.max_error_share * len(scores):
            raise UserError(
                f"verifiers.max_error_share: {num_errors} of {len(scores)} verifications failed "
                f"({' | '.join(examples())}); mend the verifier or raise the share"
            )

    # ---- start and end

    def _start_ray(self) -> None:
        if self._ray_started:
            return
        config = self.config.ray
        store = int(config.object_store_gib * 2**30) if config.address is None else None
        self._ray_daemons = start_ray(address=config.address, object_store_memory=store)
        self._ray_started = True

    def _start_pool(self, folder: str | Path) -> RolloutPool:
        if self._pool is None:
            self._start_ray()
            from rollout.workers import RolloutPool

            self.progress.say("starting the rollout engine")
            self._pool = RolloutPool(folder, self.config.rollout, log_folder=self.run_dir / "logs")
            self._pool_weights = str(folder)
        return self._pool

    def _close_part(self, name: Literal["_pool", "_judge_pool", "_preference", "_learner"]) -> None:
        """End one part if it runs; it starts anew when it is next needed."""
        part = getattr(self, name)
        if part is not None:
            part.close()
        setattr(self, name, None)

    def close(self) -> None:
        """End every process that was started; may be called twice."""
        self.scorer.close()
        self._close_part("_pool")
        self._close_part("_judge_pool")
        self._close_part("_preference")
        self._close_part("_learner")
        if self._ray_started:
            end_ray(self._ray_daemons)
            self._ray_started = False


class _FirstAsked:
    """A preference model that starts with the first conversation that it has to rate."""

    def __init__(self, start: Callable[[], RatesConversations]) -> None:
        self._start = start
        self._model: RatesConversations | None = None

    def rate_all(self, conversations: Sequence[Sequence[Message]]) -> list[Score]:
        if self._model is None:
            self._model = self._start()
        return self._model.rate_all(conversations)


def checkpoint_weights(folder: str | Path) -> dict[str, Any]:
    """All tensors of a checkpoint by name, with `lm_head.weight` even when it is tied."""
    from safetensors.torch import load_file

    folder = Path(folder)
    weights: dict[str, Any] = {}
    for file in sorted(folder.glob("*.safetensors")):
        weights |= load_file(file)
    if not weights:
        raise UserError(
            f"checkpoint: {folder} holds no *.safetensors file; point to a Hugging Face folder with weights"
        )
    weights.setdefault("lm_head.weight", weights["model.embed_tokens.weight"])
    return weights
