"""The tokens that a thinking budget wrote: finding them in a completion, and having the engine write no others.

The protocol is the report's (section 4.3): when the thinking has used up its budget, a set sentence and `</think>` are
put in. The engine does that by itself; its completions do not say where.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def forced_tokens(
    prompt_ids: Sequence[int],
    token_ids: Sequence[int],
    *,
    open_ids: Sequence[int],
    close_ids: Sequence[int],
    stop_ids: Sequence[int],
    budget: int | None,
) -> tuple[bool, ...]:
    """Which of `token_ids` the thinking budget wrote: the stop-thinking ids right after `budget` tokens of thinking.

    The thinking may have been opened in the prompt, whose thinking tokens count too. A policy that opens a second block
    is cut off in that one as well. A stop sentence that the policy wrote by itself before the budget ran out is not
    forced. At the end of a completion that ran out of room the ids may be cut short.
    """
    forced = [False] * len(token_ids)
    if budget is None:
        return tuple(forced)
    everything, first = [*prompt_ids, *token_ids], len(prompt_ids)
    starts = [start for start in _find_all(everything, open_ids) if start >= first]
    opened_in_prompt = _rfind(prompt_ids, open_ids)
    if opened_in_prompt > _rfind(prompt_ids, close_ids):
        starts.append(opened_in_prompt)
    for start in starts:
        begin = max(start + len(open_ids) + budget, first)
        written = everything[begin : begin + len(stop_ids)]
        if not written or written != list(stop_ids[: len(written)]):
            continue
        cut_short = len(written) < len(stop_ids)
        if cut_short and _find_all(everything[start:begin], close_ids):
            continue  # the thinking was over: the first ids of the sentence stand in the answer by chance
        for position in range(begin, begin + len(written)):
            forced[position - first] = True
    return tuple(forced)


def _find_all(tokens: Sequence[int], wanted: Sequence[int]) -> list[int]:
    width = len(wanted)
    return [i for i in range(len(tokens) - width + 1) if list(tokens[i : i + width]) == list(wanted)]


def _rfind(tokens: Sequence[int], wanted: Sequence[int]) -> int:
    return max(_find_all(tokens, wanted), default=-1)


def recognise_natural_end(worker: Any, forced_ids: list[int], natural_ids: list[int]) -> None:
    """Let the engine's first-generation model runner see a `</think>` that the policy wrote by itself.

    In vLLM 0.32 that runner (the only one on a CPU) looks for the whole forced string as the end of thinking. With a
    sentence before the closing tag it misses the natural end, goes on counting through the answer and forces the
    sentence into it. It also keeps the first closing tag that it sees: one out of place, before the block, would hide
    the block's own. The second-generation runner has a field of its own for the natural end and is left alone.
    """
    batch = getattr(worker.model_runner, "input_batch", None)
    holder = getattr(batch, "thinking_budget_state_holder", None)
    if holder is None:
        return
    search, update = holder._find_last_sequence_index, holder._update_think_state

    def find(target: list[int], wanted: list[int]) -> int:
        return search(target, natural_ids if wanted == forced_ids else wanted)

    def update_without_stray_end(state: dict[str, Any]) -> None:
        update(state)
        opened, closed = state["start_thinking"], state["end_thinking"]
        if not state["continue_thinking"] and (opened < 0 or closed < opened):
            state["end_thinking"] = -1

    holder._find_last_sequence_index = find
    holder._update_think_state = update_without_stray_end
