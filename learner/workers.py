"""The learner as a Ray actor: one process that owns the trained weights, the optimizer and their random state.

The controller sends rows and gets metrics; weights leave as a reference into the object store, straight to the rollout
workers.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray

from data.records import StepResult, TrainingSample, UserError
from learner.learner import Learner, LearnerConfig
from learner.placement import LearnerPlacement


class LearnerWorker:
    """The body of the Ray actor: a `Learner` that is replaced when a stage starts."""

    def __init__(self, num_threads: int) -> None:
        import torch

        torch.set_num_threads(num_threads)
        self._learner: Learner | None = None

    @property
    def learner(self) -> Learner:
        if self._learner is None:
            raise RuntimeError("learner: no model is loaded; call load() first")
        return self._learner

    def load(self, model_folder: str, config: LearnerConfig, device: str, seed: int) -> None:
        self._learner = None  # free the old one first
        self._learner = Learner(model_folder, config, device=device, seed=seed)

    def call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return getattr(self.learner, method)(*args, **kwargs)

    def release(self) -> None:
        self._learner = None


class RemoteLearner:
    """The controller's handle on the learner actor; its methods are those of `Learner`."""

    def __init__(self, placement: LearnerPlacement) -> None:
        self._placement = placement
        threads = placement.num_threads or os.cpu_count() or 1
        self._actor = (
            ray.remote(LearnerWorker)
            .options(
                num_cpus=0,
                num_gpus=placement.num_gpus,
                runtime_env={"env_vars": {"OMP_NUM_THREADS": str(threads)}},
            )
            .remote(threads)
        )

    def load(self, model_folder: str | Path, config: LearnerConfig, *, seed: int) -> None:
        self._get(self._actor.load.remote(str(model_folder), config, self._placement.device, seed))

    def sft_step(self, samples: Sequence[TrainingSample]) -> StepResult:
        return self._call("sft_step", list(samples))

    def rl_step(self, samples: Sequence[TrainingSample], **kwargs: Any) -> StepResult:
        return self._call("rl_step", list(samples), **kwargs)

    def logprobs(
        self,
        rows: Sequence[Sequence[int]],
        *,
        temperature: float = 1.0,
        loss_masks: Sequence[Sequence[int]] | None = None,
    ) -> list[list[float]]:
        return self._call("logprobs", rows, temperature=temperature, loss_masks=loss_masks)

    def weights_reference(self, *, max_lora_rank: int = 0) -> Any:
        """A reference to the weights (or the adapter) in the object store, to hand to the rollout workers."""
        return self._actor.call.remote("weights", (), {"max_lora_rank": max_lora_rank})

    def save_state(self, folder: str | Path) -> None:
        self._call("save_state", str(folder))

    def load_state(self, folder: str | Path) -> list[str]:
        return self._call("load_state", str(folder))

    def export(self, folder: str | Path, tokenizer: Any) -> None:
        self._call("export", str(folder), tokenizer)

    def release(self) -> None:
        self._get(self._actor.release.remote())

    def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._get(self._actor.call.remote(method, args, kwargs))

    def _get(self, reference: Any) -> Any:
        try:
            return ray.get(reference, timeout=self._placement.timeout_s)
        except ray.exceptions.GetTimeoutError as error:
            raise RuntimeError(f"learner: no answer within timeout_s={self._placement.timeout_s:g}") from error
        except ray.exceptions.ActorDiedError as error:
            raise RuntimeError(f"learner: its process died: {' '.join(str(error).split())}") from error
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise UserError(str(error.cause)) from error
            raise

    def close(self) -> None:
        with contextlib.suppress(ray.exceptions.RayError):  # it may be dead already, which is what is wanted
            ray.kill(self._actor)
