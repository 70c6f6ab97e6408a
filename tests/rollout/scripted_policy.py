"""Samplers that say what a script says, whole turns or a byte a step, with a log-probability that names both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from data.records import Completion, FinishReason, VersionSpan
from rollout.agent_loop import run_to_end
from rollout.policy import GenerationRequest
from tests.data.byte_tokenizer import byte_tokenizer

TOKENIZER = byte_tokenizer()

Script = Callable[[GenerationRequest], str]


def encode(text: str) -> tuple[int, ...]:
    return tuple(TOKENIZER.encode(text, add_special_tokens=False))


class ScriptedPolicy:
    """Says what `script` says of a request, byte by byte, with a log-probability that names step and position.

    A step brings every turn that is under way to its end, the last one first.
    """

    def __init__(self, script: Script, *, finish: FinishReason = "stop", version: Callable[[int], int] = lambda n: 0):
        self.script, self.finish, self.version = script, finish, version
        self.calls: list[list[GenerationRequest]] = []
        self.waiting: list[GenerationRequest] = []

    def generate(self, requests: Sequence[GenerationRequest], **options: Any) -> list[Completion]:
        return run_to_end(self, requests, tokenizer=TOKENIZER, **options)

    @property
    def num_pending(self) -> int:
        return len(self.waiting)

    def submit(self, request: GenerationRequest) -> None:
        self.waiting.append(request)

    def step(self) -> list[Completion]:
        self.calls.append(self.waiting)
        self.waiting = []
        return [self._completion(request) for request in self.calls[-1]][::-1]

    def _completion(self, request: GenerationRequest) -> Completion:
        text = self.script(request)
        ids = encode(text)
        cut = ids[: request.sampling.max_tokens]
        return Completion(
            prompt_uid=request.prompt_uid,
            sample_index=request.sample_index,
            prompt_token_ids=request.prompt_token_ids,
            token_ids=cut,
            logprobs=tuple(-len(self.calls) - position / 1000 for position in range(len(cut))),
            forced=tuple(position == 1 and text.startswith("F") for position in range(len(cut))),
            finish_reason="length" if len(cut) < len(ids) else self.finish,
            weight_versions=(VersionSpan(self.version(len(self.calls)), 0, len(cut)),),
            text=TOKENIZER.decode(cut),
        )


class OneByteAStep(ScriptedPolicy):
    """Goes one byte on with each turn at every step, as an engine does."""

    def __init__(self, script: Script) -> None:
        super().__init__(script)
        self.under_way: list[tuple[GenerationRequest, int]] = []

    @property
    def num_pending(self) -> int:
        return len(self.under_way)

    def submit(self, request: GenerationRequest) -> None:
        self.under_way.append((request, len(encode(self.script(request)))))

    def step(self) -> list[Completion]:
        self.calls.append([request for request, _ in self.under_way])
        left = [(request, num_left - 1) for request, num_left in self.under_way]
        self.under_way = [(request, num_left) for request, num_left in left if num_left]
        return [self._completion(request) for request, num_left in left if not num_left]
