"""What the tests of a running server share: a registry with one version of each kind, questions, and spoilt weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import safetensors.torch
from torch import Tensor

from serving.registry import Registry
from tests.serving.served_models import CALLS_ADD, THINKS_A_SAYS_B, THINKS_FOR_EVER_SAYS_D, save_checkpoint

KEY = "a-key-for-the-tests-alone"
MESSAGES: list[Any] = [{"role": "user", "content": "the sum of two and three"}]
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "add",
            "description": "Adds two numbers.",
            "parameters": {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}},
        },
    }
]
PROMPTS = ("the sum of two and three", "a then b then c", "five", "the the the", "two and two", "c b a")
SPOILT = "model.layers.1.self_attn.o_proj.weight"


def spoil(change: Callable[[Tensor], Tensor]) -> Callable[[Path], None]:
    """Change one matrix of a folder whose files are not hashed yet: they will be whole and right by their hashes."""

    def spoil(folder: Path) -> None:
        path = folder / "model.safetensors"
        tensors = safetensors.torch.load_file(path)
        tensors[SPOILT] = change(tensors[SPOILT]).contiguous()
        safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})

    return spoil


narrow = spoil(lambda weight: weight[:10])
not_a_number = spoil(lambda weight: weight.fill_(math.nan))


class Models:
    """A registry with one version of each kind, and the names of these."""

    def __init__(self, root: Path) -> None:
        self.registry = Registry(root / "models")
        kinds: dict[str, dict[str, Any]] = {
            "speaks": {"script": THINKS_A_SAYS_B},
            "calls": {"script": CALLS_ADD},
            "ponders": {"script": THINKS_FOR_EVER_SAYS_D},
            "random_1": {"seed": 1},
            "random_2": {"seed": 2},
            "narrow": {"seed": 3, "spoil": narrow},
            "not_a_number": {"seed": 3, "spoil": not_a_number},
            "other_shape": {"changes": {"rms_norm_eps": 0.1}},
        }
        folders = {kind: save_checkpoint(root / kind, max_positions=2048, **kinds[kind]) for kind in kinds}
        self.names = {kind: self.registry.add(folder).name for kind, folder in folders.items()}
        self.registry.point("production", self.names["speaks"], expected_generation=0, reason="test")


def ask(client: Any, messages: list[Any] = MESSAGES, **options: Any) -> Any:
    """A chat completion, greedy; with an asynchronous client what is awaited for it."""
    settings: dict[str, Any] = {"model": "production", "temperature": 0, "max_tokens": 200}
    return client.chat.completions.create(messages=messages, **{**settings, **options})


def completions(client: openai.OpenAI) -> tuple[str, ...]:
    """What the version that serves answers to each prompt, word by word."""
    return tuple(
        client.completions.create(model="production", prompt=prompt, temperature=0, max_tokens=24).choices[0].text
        for prompt in PROMPTS
    )
