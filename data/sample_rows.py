"""One rollout with its score as a plain row to read: what `samples.jsonl` and cached evaluations hold.

Beside the texts a row holds the tokens as the model saw them, each with whether the policy sampled it (it carries loss)
or the prompt, the thinking budget or an environment wrote it (it does not), so that a template or a mask gone wrong
shows when a rollout is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from data.records import Completion, Prompt, Score

MAX_ROW_TOKENS = 1024
"""Most tokens of one part of a rollout that a row holds; of a longer one the middle is left out and counted."""

MAX_REFERENCE_CHARACTERS = 20_000
"""Longest text inside a reference that a row holds; the packed tests of one LiveCodeBench problem are megabytes."""


class TokenPieces:
    """The text of single tokens, decoded once each: a step writes the same few thousand again and again."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._pieces: dict[int, str] = {}

    def __call__(self, token_ids: Sequence[int]) -> list[str]:
        """The piece of each id; a token that is part of a character shows as the replacement character."""
        for token in token_ids:
            if token not in self._pieces:
                self._pieces[token] = self._tokenizer.decode([token])
        return [self._pieces[token] for token in token_ids]


def rendered_parts(completion: Completion, pieces: TokenPieces, *, most: int = MAX_ROW_TOKENS) -> list[dict[str, Any]]:
    """Each part of a rollout as {"pieces": [text, …], "loss_mask": "0011…"}, prompt first.

    Of more than `most` tokens the first and the last half are kept; "left_out": [position, number] says where the gap
    is and how many are missing. A rollout has one part unless its history was rendered anew between two turns.
    """
    parts = []
    for segment in completion.segments:
        ids = [*segment.prompt_token_ids, *segment.token_ids]
        mask = "0" * len(segment.prompt_token_ids) + "".join("0" if forced else "1" for forced in segment.forced)
        part: dict[str, Any] = {}
        if (missing := len(ids) - most) > 0:
            head, tail = most - most // 2, len(ids) - most // 2
            ids, mask = ids[:head] + ids[tail:], mask[:head] + mask[tail:]
            part["left_out"] = [head, missing]
        parts.append({"pieces": pieces(ids), "loss_mask": mask, **part})
    return parts


def shortened(value: Any, *, most: int = MAX_REFERENCE_CHARACTERS) -> Any:
    """The value with the middle of every text of more than `most` characters left out, which is said in its place."""
    if isinstance(value, str) and len(value) > most:
        head, tail = most - most // 2, len(value) - most // 2
        return f"{value[:head]}[… {tail - head:,} characters left out …]{value[tail:]}"
    if isinstance(value, Mapping):
        return {key: shortened(item, most=most) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shortened(item, most=most) for item in value]
    return value


def rollout_row(
    prompt: Prompt,
    completion: Completion,
    score: Score,
    *,
    stage: str,
    step: int,
    pieces: TokenPieces,
    benchmark: str | None = None,
) -> dict[str, Any]:
    """One rollout with its score, to read; `benchmark` where it was sampled for one.

    Long texts of the reference are shortened, so that a row is to read and not to score again.
    """
    return {
        "stage": stage,
        "step": step,
        "task": prompt.task,
        **({} if benchmark is None else {"benchmark": benchmark}),
        "uid": prompt.uid,
        "mode": prompt.mode,
        "prompt": [dict(message) for message in prompt.messages],
        "completion": completion.text,
        "reference": shortened(prompt.reference),
        "reward": score.reward,
        "outcome": score.outcome,
        "reason": score.reason,
        "turns": list(completion.turns),
        "ended": completion.ended,
        "tokens": completion.num_tokens,
        "finish_reason": completion.finish_reason,
        "rendered": rendered_parts(completion, pieces),
    }
