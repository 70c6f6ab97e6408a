"""A judge behind any OpenAI-compatible endpoint: the transport, with its time limits, retries and concurrency.

The `openai` client does the retries (connection errors, timeouts, 408, 409, 429 and 5xx, with exponential back-off and
jitter). What is left after them is a `NoCompletion`, so that one lost request costs one score and not the batch.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from data.records import Message, UserError
from rewards.judge import Judge, JudgeConfig, NoCompletion

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types.chat import ChatCompletion

RETRY_TEMPERATURE = 0.7
"""Of attempts after the first, which is greedy."""

MAX_BACKOFF_S = 8.0
"""The longest pause of the `openai` client between two retries, unless the server asks for a longer one."""

NO_KEY = "none"
"""What is sent where no key is needed: the client insists on one."""


class OpenAIChatModel:
    """`rewards.judge.ChatModel` over HTTP. It holds no connection and no thread between two calls.

    Raises UserError when the environment variable that should hold the key is not set.
    """

    def __init__(self, config: JudgeConfig) -> None:
        config.validate()
        self.config = config
        self._api_key = os.environ.get(config.api_key_env, "") if config.api_key_env else NO_KEY
        if not self._api_key:
            raise UserError(f"api_key_env: {config.api_key_env!r} is not set; export it with the key of the judge")

    def complete(self, conversations: Sequence[Sequence[Message]], *, attempt: int) -> list[str | NoCompletion]:
        """One completion per conversation, in order; not to be called from within an event loop."""
        return asyncio.run(self._complete_all(conversations, attempt))

    async def _complete_all(self, conversations: Sequence[Sequence[Message]], attempt: int) -> list[str | NoCompletion]:
        from openai import AsyncOpenAI

        limit = asyncio.Semaphore(self.config.concurrency)
        client = AsyncOpenAI(
            base_url=self.config.base_url,
            api_key=self._api_key,
            timeout=self.config.timeout_s,
            max_retries=self.config.max_retries,
        )

        async def bounded(messages: Sequence[Message]) -> str | NoCompletion:
            async with limit:
                return await self._complete_one(client, messages, attempt)

        async with client:
            return list(await asyncio.gather(*map(bounded, conversations)))

    async def _complete_one(self, client: AsyncOpenAI, messages: Sequence[Message], attempt: int) -> str | NoCompletion:
        from openai import OpenAIError

        # The client's timeout is one of silence: a server that trickles bytes would never trip it.
        deadline_s = self.config.timeout_s * (self.config.max_retries + 1) + MAX_BACKOFF_S * self.config.max_retries
        try:
            async with asyncio.timeout(deadline_s):
                reply = await client.chat.completions.create(
                    model=self.config.model,
                    messages=[dict(message) for message in messages],  # type: ignore[misc]
                    temperature=0.0 if attempt == 0 else RETRY_TEMPERATURE,
                    max_tokens=self.config.max_tokens,
                    seed=attempt,
                )
        except TimeoutError:
            return NoCompletion(f"no reply within {deadline_s:g} s, retries included")
        except (OpenAIError, ValueError) as error:  # ValueError: a body that is no JSON, which the client lets through
            return NoCompletion(f"{type(error).__name__}: {error}")
        return _text(reply)


def _text(reply: ChatCompletion) -> str | NoCompletion:
    """The text of a reply; servers send many things with status 200, and the client does not check their shape."""
    try:
        choice = reply.choices[0]
        content, finish_reason = choice.message.content, choice.finish_reason
    except (AttributeError, IndexError, TypeError):
        return NoCompletion(f"reply without choices: {str(reply)[:80]!r}", retry=True)
    if finish_reason == "length":
        return NoCompletion("reply was cut at max_tokens", retry=True)
    if not isinstance(content, str) or not content.strip():
        return NoCompletion("empty reply", retry=True)
    return content


def endpoint_judge(config: JudgeConfig, *, nonce_key: bytes | None = None) -> Judge:
    """The judge at the configured endpoint."""
    return Judge(
        OpenAIChatModel(config),
        max_attempts=config.max_attempts,
        max_response_chars=config.max_response_chars,
        nonce_key=nonce_key,
    )
