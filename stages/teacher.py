"""Teachers of the cold start: who writes the N candidate responses to a query.

Report §4.1 samples them from QwQ-32B. Here a teacher is one of three: the reward task's own worked-solution generator,
which errs at a set rate (the embedded default, no model needed); an OpenAI-compatible endpoint; or a model folder that
the rollout engine loads. All give (reasoning, answer) pairs, which the response filters then judge alike.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from data.chat import parse_completion
from data.records import Prompt, UserError
from rewards.registry import get_task
from rewards.task import item_of
from rollout.groups import build_requests
from rollout.policy import SamplingConfig
from stages.services import Services

API_KEY_VARIABLE = "FOURSTAGE_TEACHER_API_KEY"


@dataclass(frozen=True, kw_only=True, slots=True)
class TeacherConfig:
    """`worked_solutions` errs a step with `error_rate`; `endpoint` needs `url` and `model`; `model` needs `folder`."""

    kind: Literal["worked_solutions", "endpoint", "model"] = "worked_solutions"
    error_rate: float = 0.05
    url: str | None = None
    model: str | None = None
    folder: str | None = None
    temperature: float = 0.6
    max_tokens: int = 4096
    timeout_s: float = 120.0

    def validate(self) -> None:
        if not 0 <= self.error_rate < 1:
            raise UserError(f"error_rate: {self.error_rate} must lie in [0, 1)")
        if self.kind == "endpoint" and not (self.url and self.model):
            raise UserError("url: teacher kind 'endpoint' needs url (ending in /v1) and model")
        if self.url is not None and not self.url.startswith(("http://", "https://")):
            raise UserError(f"url: {self.url!r} must start with http:// or https://")
        if not self.temperature >= 0:
            raise UserError(f"temperature: {self.temperature} must be 0 (greedy) or more")
        if self.max_tokens < 1:
            raise UserError(f"max_tokens: {self.max_tokens} must be 1 or more")
        if not self.timeout_s > 0:
            raise UserError(f"timeout_s: {self.timeout_s} must be above 0")
        if self.kind == "model" and not self.folder:
            raise UserError("folder: teacher kind 'model' needs the folder of a Hugging Face model")


@dataclass(frozen=True, slots=True)
class TeacherResponse:
    """One candidate: what stands in the think block and what follows it."""

    prompt: Prompt
    reasoning: str
    answer: str


def teacher_responses(
    prompts: Sequence[Prompt], config: TeacherConfig, *, num_candidates: int, seed: int, services: Services
) -> list[TeacherResponse]:
    """`num_candidates` responses a prompt, in the order of the prompts."""
    if config.kind == "worked_solutions":
        return _worked(prompts, config, num_candidates, seed)
    if config.kind == "model":
        return _from_model(prompts, config, num_candidates, seed, services)
    return [
        _ask_endpoint(prompt, config, seed=seed * 1000 + index) for prompt in prompts for index in range(num_candidates)
    ]


def _worked(prompts: Sequence[Prompt], config: TeacherConfig, num_candidates: int, seed: int) -> list[TeacherResponse]:
    responses = []
    for prompt in prompts:
        work = get_task(prompt.task).work
        if work is None:
            raise UserError(
                f"cold_start.teacher.kind: task {prompt.task!r} has no worked-solution generator; "
                "use kind=endpoint or kind=model, or leave the task out of cold_start.queries"
            )
        for index in range(num_candidates):
            rng = random.Random(f"teacher/{seed}/{prompt.uid}/{index}")
            worked = work(rng, item_of(prompt), config.error_rate)
            responses.append(TeacherResponse(prompt, worked.reasoning, worked.answer))
    return responses


def _from_model(
    prompts: Sequence[Prompt], config: TeacherConfig, num_candidates: int, seed: int, services: Services
) -> list[TeacherResponse]:
    assert config.folder is not None
    requests = build_requests(
        prompts,
        tokenizer=services.tokenizer(config.folder),
        group_size=num_candidates,
        sampling=SamplingConfig(temperature=config.temperature, max_tokens=config.max_tokens),
        run_seed=seed,
        purpose="teacher",
        want_logprobs=False,
    )
    completions = services.sample_with_other_model(config.folder, requests)
    by_uid = {prompt.uid: prompt for prompt in prompts}
    responses = []
    for completion in completions:
        parsed = parse_completion(completion.text)
        responses.append(TeacherResponse(by_uid[completion.prompt_uid], parsed.reasoning or "", parsed.answer))
    return responses


def _ask_endpoint(prompt: Prompt, config: TeacherConfig, *, seed: int) -> TeacherResponse:
    body: dict[str, Any] = {
        "model": config.model,
        "messages": [dict(message) for message in prompt.messages],
        "temperature": config.temperature,
        "max_tokens": config.max_tokens,
        "seed": seed,
    }
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get(API_KEY_VARIABLE):
        headers["Authorization"] = f"Bearer {key}"
    address = f"{str(config.url).rstrip('/')}/chat/completions"
    request = urllib.request.Request(address, data=json.dumps(body).encode(), headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=config.timeout_s) as reply:
            message = dict(json.load(reply)["choices"][0]["message"])
    # OSError: no connection, an HTTP status, a time-out; the rest: an answer that is cut short or of another shape.
    except (OSError, http.client.HTTPException, LookupError, TypeError, ValueError) as error:
        raise UserError(
            f"cold_start.teacher.url: {address} gave no usable answer ({type(error).__name__}: {error}); "
            "check url, model and key"
        ) from error
    content = message.get("content") or ""
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    if reasoning is None:
        parsed = parse_completion(content)
        return TeacherResponse(prompt, parsed.reasoning or "", parsed.answer)
    return TeacherResponse(prompt, reasoning.strip("\n"), content)
