"""A real engine beside the learner whose weights it was started with: what the engine's tests compare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from data.records import Completion
from learner.learner import Learner
from learner.learner_config import LearnerConfig
from rollout.config import EngineConfig
from rollout.engine import Engine
from tests.integration.tiny_policies import MAX_POSITIONS, save_policy

ENGINE = EngineConfig(max_model_len=MAX_POSITIONS, max_num_seqs=32, max_num_batched_tokens=1024)
POLICIES = {
    "qwen3": ("qwen3", False),
    "qwen3-tied": ("qwen3", True),
    "llama": ("llama", False),
    "qwen3-moe": ("qwen3_moe", False),
    "qwen3-moe-padded": ("qwen3_moe_padded", True),
}
"""Name to family and whether the head is tied to the embedding."""


def forget_parallel_groups() -> None:
    """Let the next engine of this process make its process groups anew.

    vLLM makes them once a process, without a group for experts when its first model has none. A run has one engine a
    process; only tests come after each other. Nothing may be running.
    """
    from vllm.distributed.parallel_state import destroy_model_parallel

    destroy_model_parallel()


@dataclass(frozen=True)
class Pair:
    """An engine and the learner whose weights it was started with."""

    engine: Engine
    learner: Learner
    folder: Path

    def ids(self, text: str) -> list[int]:
        return self.engine.tokenizer.encode(text, add_special_tokens=False)

    def id(self, text: str) -> int:
        (token,) = self.ids(text)
        return token

    def own_weights(self) -> dict[str, Tensor]:
        return self.learner.weights()

    def gap(self, completion: Completion, temperature: float = 1.0) -> float:
        """Largest |engine - learner| in nats over the tokens of a completion."""
        row = [*completion.prompt_token_ids, *completion.token_ids]
        expected = self.learner.logprobs([row], temperature=temperature)[0][len(completion.prompt_token_ids) :]
        return max(abs(a - b) for a, b in zip(expected, completion.logprobs, strict=True))


@dataclass(frozen=True)
class Pairs:
    """Pairs by the name of their policy, each started when it is first asked for."""

    new_folder: Callable[[str], Path]
    started: dict[str, Pair] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Pair:
        if name not in self.started:
            family, tied = POLICIES[name]
            folder = save_policy(self.new_folder(name) / "model", family, tied=tied)
            self.started[name] = Pair(Engine(folder, ENGINE), Learner(folder, LearnerConfig()), folder)
        return self.started[name]

    def close(self) -> None:
        for pair in self.started.values():
            pair.engine.close()
