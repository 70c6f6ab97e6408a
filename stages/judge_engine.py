"""A judge that is a model folder of the recipe: the chat model of `rewards.judge`, on rollout engines of its own.

The engines start with the first question and live as long as the run, beside those of the policy, whose weights change
while the judge's do not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from data.chat import parse_completion
from data.records import Message
from rewards.judge import JudgeConfig, NoCompletion
from rewards.judge_endpoint import RETRY_TEMPERATURE
from rollout.policy import GenerationRequest, Policy, SamplingConfig, request_seed


class EngineChatModel:
    """`rewards.judge.ChatModel` over a policy; `start` gives the engines and the tokenizer, once, when first asked.

    The folder's own chat template renders the conversation. A prompt with no room for an answer is a `NoCompletion`.
    """

    def __init__(self, config: JudgeConfig, start: Callable[[], tuple[Policy, Any]]) -> None:
        self.config = config
        self._start = start
        self._started: tuple[Policy, Any] | None = None

    def complete(self, conversations: Sequence[Sequence[Message]], *, attempt: int) -> list[str | NoCompletion]:
        """One completion per conversation, in order; attempt 0 is greedy, a later one is seeded by its number."""
        if self._started is None:
            self._started = self._start()
        policy, tokenizer = self._started
        sampling = SamplingConfig(
            temperature=0.0 if attempt == 0 else RETRY_TEMPERATURE, max_tokens=self.config.max_tokens
        )
        answers: list[str | NoCompletion] = []
        requests: list[GenerationRequest] = []
        for index, messages in enumerate(conversations):
            ids = tokenizer.apply_chat_template(
                [dict(message) for message in messages], add_generation_prompt=True, tokenize=True, return_dict=False
            )
            room = self.config.max_model_len - len(ids)
            answers.append(NoCompletion(f"prompt of {len(ids)} tokens leaves no room in {self.config.max_model_len}"))
            if room > 0:
                seed = request_seed(attempt, "judge", index)
                requests.append(GenerationRequest(str(index), 0, tuple(ids), sampling, seed, want_logprobs=False))
        for completion in policy.generate(requests) if requests else []:
            cut = completion.finish_reason != "stop"
            answers[int(completion.prompt_uid)] = (
                NoCompletion("reply was cut at max_tokens", retry=True)
                if cut
                else parse_completion(completion.text).answer
            )
        return answers
