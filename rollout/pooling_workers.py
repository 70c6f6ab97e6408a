"""The preference model as a Ray actor: a pooling engine in a process of its own, asked with plain data."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import ray

from data.records import Message, UserError
from rollout.config import PoolingConfig


class PoolingWorker:
    """One pooling engine in one process; the body of the Ray actor."""

    def __init__(self, model_folder: str, config: PoolingConfig, log_path: str) -> None:
        Path(log_path).parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        from rollout.pooling import PoolingEngine

        self.engine = PoolingEngine(model_folder, config)

    def ready(self) -> int:
        """The number of the process that holds the engine, once the engine has started."""
        return os.getpid()

    def raw_scores(self, conversations: Sequence[Sequence[Message]]) -> list[float]:
        return self.engine.raw_scores(conversations)


class PreferencePool:
    """The controller's handle on the preference model (`rewards.preference.PreferenceModel`); Ray has to be running.

    The constructor returns when the engine is ready. Raises UserError when it dies at start, RuntimeError when it is
    not ready in time.
    """

    def __init__(self, model_folder: str | Path, config: PoolingConfig, *, log_folder: str | Path) -> None:
        config.validate()
        self.config = config
        self._log_path = Path(log_folder) / "preference.log"
        threads = config.num_threads or os.cpu_count() or 1
        self._actor = (
            ray.remote(PoolingWorker)
            .options(
                num_cpus=0,
                num_gpus=config.num_gpus,
                runtime_env={"env_vars": {"OMP_NUM_THREADS": str(threads)}},
            )
            .remote(str(model_folder), config, str(self._log_path))
        )
        try:
            self.process_id: int = ray.get(self._actor.ready.remote(), timeout=config.start_timeout_s)
        except ray.exceptions.GetTimeoutError as error:
            self.close()
            raise RuntimeError(
                f"preference: the engine was not ready within start_timeout_s={config.start_timeout_s:g}; {self._log()}"
            ) from error
        except ray.exceptions.RayError as error:
            self.close()
            raise UserError(self._cause(error)) from error

    def raw_scores(self, conversations: Sequence[Sequence[Message]]) -> list[float]:
        """One score for each conversation, in order. Raises RuntimeError when the engine dies or does not answer."""
        plain = [[dict(message) for message in messages] for messages in conversations]
        try:
            scores: list[float] = ray.get(self._actor.raw_scores.remote(plain), timeout=self.config.answer_timeout_s)
        except ray.exceptions.GetTimeoutError as error:
            raise RuntimeError(
                f"preference: no answer within answer_timeout_s={self.config.answer_timeout_s:g}; {self._log()}"
            ) from error
        except ray.exceptions.ActorDiedError as error:
            raise RuntimeError(f"preference: the engine died; {self._log()}") from error
        return scores

    def _cause(self, error: BaseException) -> str:
        """What the engine said when it could not start, in one line."""
        raised = [line.strip() for line in str(error).splitlines() if "UserError: " in line]
        if raised:
            return raised[-1].split("UserError: ", 1)[1]
        return f"preference: the engine died at start; {self._log()}"

    def _log(self) -> str:
        text = self._log_path.read_text(errors="replace") if self._log_path.exists() else ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return f"its last lines ({self._log_path}): {' | '.join(lines[-3:]) or 'none'}"

    def close(self) -> None:
        """End the engine's process; may be called twice."""
        if self._actor is not None:
            with contextlib.suppress(ray.exceptions.RayError):  # it may be dead already, which is what is wanted
                ray.kill(self._actor)
            self._actor = None
