"""The learner as Ray actors: the ranks that own the trained weights, the optimizer and their random state.

The controller sends rows once, into the object store, and every rank takes its share of them; weights leave as a
reference, straight to the rollout workers.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray

from data.adapter import AdapterWeights
from data.records import StepResult, TrainingSample, UserError
from data.traces import Trace
from data.weight_arrays import to_arrays
from learner.learner import Learner, LearnerConfig
from learner.placement import LearnerPlacement
from learner.ranks import Ranks

_DEATH_KNOWN_S = 10.0
"""How long Ray may take to notice that a process is gone."""


class LearnerWorker:
    """The body of one Ray actor: a `Learner` that is replaced when a stage starts."""

    def __init__(self, rank: int, placement: LearnerPlacement, num_threads: int) -> None:
        import torch

        torch.set_num_threads(num_threads)
        self._rank = rank
        self._placement = placement
        self._ranks = Ranks()
        self._learner: Learner | None = None
        self._trace: Trace | None = None

    def address(self) -> str:
        """A free address on this machine, for the ranks to meet at."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            return f"tcp://{ray.util.get_node_ip_address()}:{probe.getsockname()[1]}"

    def join(self, address: str) -> int:
        """Meet the other ranks; returns the number of this process."""
        placement = self._placement
        if placement.num_workers > 1 or placement.sharding != "replicate":
            self._ranks = Ranks.join(
                self._rank,
                placement.num_workers,
                address=address,
                device=placement.device,
                timeout_s=placement.timeout_s,
            )
        return os.getpid()

    @property
    def learner(self) -> Learner:
        if self._learner is None:
            raise RuntimeError("learner: no model is loaded; call load() first")
        return self._learner

    def load(self, model_folder: str, config: LearnerConfig, seed: int) -> None:
        self._learner = None  # free the old one first
        placement = self._placement
        self._learner = Learner(
            model_folder,
            config,
            device=placement.device,
            seed=seed,
            ranks=self._ranks,
            sharding=placement.sharding,
            offload_optimizer=placement.offload_optimizer,
        )

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.learner, method)(*args, **kwargs)

    def begin_trace(self) -> None:
        self._trace = Trace()

    def end_trace(self, path: str) -> None:
        assert self._trace is not None
        self._trace.write(Path(path))
        self._trace = None

    def weights(self, max_lora_rank: int) -> Any:
        """What the engines want, as arrays that they all read from one place in the object store."""
        weights = self.learner.weights(max_lora_rank=max_lora_rank, copy=False)  # Ray copies them before the next call
        return weights if isinstance(weights, AdapterWeights) else to_arrays(weights)

    def release(self) -> None:
        self._learner = None


class RemoteLearner:
    """The controller's handle on the ranks; its methods are those of `Learner`, and every rank carries each out."""

    def __init__(self, placement: LearnerPlacement) -> None:
        self._placement = placement
        cores = os.cpu_count() or 1
        threads = placement.num_threads or max(1, cores // placement.num_workers)
        actor = ray.remote(LearnerWorker).options(
            num_cpus=0,
            num_gpus=placement.num_gpus,
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(threads)}},
        )
        self._actors = [actor.remote(rank, placement, threads) for rank in range(placement.num_workers)]
        address = self._get([self._actors[0].address.remote()])[0]
        self.process_ids: list[int] = self._get([worker.join.remote(address) for worker in self._actors])

    def load(self, model_folder: str | Path, config: LearnerConfig, *, seed: int) -> None:
        self._get([worker.load.remote(str(model_folder), config, seed) for worker in self._actors])

    def sft_step(self, samples: Sequence[TrainingSample]) -> StepResult:
        return self._call("sft_step", ray.put(list(samples)))

    def rl_step(self, samples: Sequence[TrainingSample], **kwargs: Any) -> StepResult:
        return self._call("rl_step", ray.put(list(samples)), **kwargs)

    def logprobs(
        self,
        rows: Sequence[Sequence[int]],
        *,
        temperature: float = 1.0,
        loss_masks: Sequence[Sequence[int]] | None = None,
    ) -> list[list[float]]:
        return self._call("logprobs", ray.put(rows), temperature=temperature, loss_masks=loss_masks)

    def weights_reference(self, *, max_lora_rank: int = 0) -> Any:
        """A reference to the weights (or the adapter) in the object store, to hand to the rollout workers."""
        references = [worker.weights.remote(max_lora_rank) for worker in self._actors]
        return references[0]  # the other ranks only help to gather them

    def save_state(self, folder: str | Path) -> None:
        self._call("save_state", str(folder))

    def load_state(self, folder: str | Path) -> list[str]:
        return self._call("load_state", str(folder))

    def export(self, folder: str | Path, tokenizer: Any) -> None:
        self._call("export", str(folder), tokenizer)

    def begin_trace(self) -> None:
        """Begin to record what the first rank does, until `end_trace`."""
        self._get([self._actors[0].begin_trace.remote()])

    def end_trace(self, path: str | Path) -> None:
        """End the recording and write it to `path` (`.json.gz`)."""
        self._get([self._actors[0].end_trace.remote(str(path))])

    def release(self) -> None:
        self._get([worker.release.remote() for worker in self._actors])

    def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """What the first rank answers, when all have."""
        return self._get(self._begin(method, *args, **kwargs))[0]

    def _begin(self, method: str, *args: Any, **kwargs: Any) -> list[Any]:
        return [worker.call.remote(method, *args, **kwargs) for worker in self._actors]

    def _get(self, references: list[Any]) -> list[Any]:
        """The answers of all ranks; the first error of any rank ends the wait, for the others may wait for that one."""
        waiting = list(references)
        try:
            while waiting:
                ready, waiting = ray.wait(waiting, num_returns=1, timeout=self._placement.timeout_s)
                if not ready:
                    raise RuntimeError(f"learner: no answer within timeout_s={self._placement.timeout_s:g}")
                ray.get(ready[0])
            return ray.get(references)
        except ray.exceptions.ActorDiedError as error:
            raise RuntimeError(f"learner: its process died: {' '.join(str(error).split())}") from error
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise UserError(str(error.cause)) from error
            self._raise_if_one_died(waiting)
            raise

    def _raise_if_one_died(self, waiting: Sequence[Any]) -> None:
        """A rank that loses another one says so first, in the words of its transport; this names the one that died."""
        for reference in waiting:
            try:
                ray.get(reference, timeout=_DEATH_KNOWN_S)
            except ray.exceptions.ActorDiedError as error:
                raise RuntimeError(f"learner: its process died: {' '.join(str(error).split())}") from error
            except ray.exceptions.RayError:  # it lives, or lost its partner too: not the cause
                continue

    def close(self) -> None:
        for worker in self._actors:
            with contextlib.suppress(ray.exceptions.RayError):  # it may be dead already, which is what is wanted
                ray.kill(worker)
