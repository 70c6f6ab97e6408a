"""Thinking budgets in the real engine, on policies whose every token is known in advance.

The protocol is the report's: after `budget` tokens of thinking the stop-thinking sentence with its closing tag is
forced, byte for byte, and the policy answers from what it has thought. Forced tokens are marked; a block that ends by
itself is left alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from data.chat import IM_END, STOP_THINKING, THINK_CLOSE, THINK_OPEN
from data.records import Completion
from tests.integration.engine_pairs import Pair
from tests.integration.tiny_policies import chain, request, scripted

pytestmark = [pytest.mark.engine, pytest.mark.integration]


def think(pair: Pair, after: dict[int, int], prompt: Sequence[int], **sampling: int | None) -> Completion:
    """The completion of `prompt` by a policy that follows the script `after`."""
    pair.engine.update_weights(scripted(pair.own_weights(), after), version=1)
    return pair.engine.generate([request(prompt, **{"max_tokens": 200, **sampling})])[0]


@pytest.mark.parametrize("budget", [0, 1, 5])
@pytest.mark.parametrize("opened_in_prompt", [True, False])
def test_the_sentence_is_forced_after_exactly_the_budget(pair: Pair, budget: int, opened_in_prompt: bool) -> None:
    opening, a, b, end = pair.id(THINK_OPEN), pair.id("a"), pair.id("b"), pair.id(IM_END)
    stop = pair.ids(STOP_THINKING)
    after = {b: opening, opening: a, a: a, stop[-1]: end}  # thinks "aaa…" for ever; ends the turn once it is stopped
    completion = think(pair, after, [b, opening] if opened_in_prompt else [b], thinking_budget=budget)
    thinking = [] if opened_in_prompt else [opening]
    thinking += [a] * budget
    assert list(completion.token_ids) == [*thinking, *stop, end]
    assert completion.forced == (False,) * len(thinking) + (True,) * len(stop) + (False,)
    assert completion.text == ("" if opened_in_prompt else THINK_OPEN) + "a" * budget + STOP_THINKING + IM_END
    assert completion.finish_reason == "stop"


def test_thinking_in_the_prompt_counts_towards_the_budget(pair: Pair) -> None:
    opening, a, end = pair.id(THINK_OPEN), pair.id("a"), pair.id(IM_END)
    stop = pair.ids(STOP_THINKING)
    completion = think(pair, {a: a, stop[-1]: end}, [opening, a, a], thinking_budget=3)
    assert list(completion.token_ids) == [a, *stop, end]
    assert [i for i, forced in enumerate(completion.forced) if forced] == list(range(1, 1 + len(stop)))


def test_without_a_budget_thinking_goes_on(pair: Pair) -> None:
    opening, a = pair.id(THINK_OPEN), pair.id("a")
    completion = think(pair, {opening: a, a: a}, [opening], max_tokens=30)
    assert completion.token_ids == (a,) * 30
    assert not any(completion.forced)


@pytest.mark.parametrize("budget", [2, 3, 10])
@pytest.mark.parametrize("opened_in_prompt", [True, False])
def test_a_natural_end_within_the_budget_is_respected(pair: Pair, budget: int, opened_in_prompt: bool) -> None:
    opening, closing = pair.id(THINK_OPEN), pair.id(THINK_CLOSE)
    a, b, c, d = (pair.id(letter) for letter in "abcd")
    after = {d: opening, opening: a, a: closing, closing: b, b: c, c: b}  # thinks "a", answers "bcbc…" past any budget
    completion = think(pair, after, [d, opening] if opened_in_prompt else [d], thinking_budget=budget, max_tokens=40)
    own = [a, closing] if opened_in_prompt else [opening, a, closing]
    answer = [b, c] * 20
    assert list(completion.token_ids) == (own + answer)[:40]
    assert not any(completion.forced)


def test_a_block_that_was_closed_in_the_prompt_is_over(pair: Pair) -> None:
    opening, closing, a, b = (pair.id(text) for text in (THINK_OPEN, THINK_CLOSE, "a", "b"))
    completion = think(pair, chain(a, b), [opening, a, b, closing, a], thinking_budget=3, max_tokens=30)
    assert completion.token_ids == (b, a) * 15
    assert not any(completion.forced)


def test_a_second_block_has_a_budget_of_its_own_and_its_forced_tokens_are_marked(pair: Pair) -> None:
    opening, a = pair.id(THINK_OPEN), pair.id("a")
    stop = pair.ids(STOP_THINKING)
    after = {opening: a, a: a, stop[-1]: opening}  # opens a new block each time it is stopped
    length = 2 * (2 + len(stop)) + 1
    completion = think(pair, after, [opening], thinking_budget=2, max_tokens=length)
    assert list(completion.token_ids) == [a, a, *stop, opening, a, a, *stop]
    expected = [False] * 2 + [True] * len(stop) + [False] * 3 + [True] * len(stop)
    assert list(completion.forced) == expected


def test_a_stray_closing_tag_before_the_block_does_not_hide_its_real_end(pair: Pair) -> None:
    opening, closing, a, b = (pair.id(text) for text in (THINK_OPEN, THINK_CLOSE, "a", "b"))
    cycle = (closing, a, opening, b)  # the first closing tag stands alone, each later one ends a block of one token
    completion = think(pair, chain(*cycle), [b], thinking_budget=4, max_tokens=40)
    assert completion.token_ids == cycle * 10
    assert not any(completion.forced)


def test_the_budget_of_one_request_leaves_the_others_alone(pair: Pair) -> None:
    opening, a, end = pair.id(THINK_OPEN), pair.id("a"), pair.id(IM_END)
    stop = pair.ids(STOP_THINKING)
    pair.engine.update_weights(scripted(pair.own_weights(), {opening: a, a: a, stop[-1]: end}), version=1)
    budgets = [None, 2, 7, None, 0]
    requests = [request([opening], index=i, thinking_budget=budget, max_tokens=60) for i, budget in enumerate(budgets)]
    for budget, completion in zip(budgets, pair.engine.generate(requests), strict=True):
        expected = [a] * 60 if budget is None else [a] * budget + stop + [end]
        assert list(completion.token_ids) == expected[:60]
        assert sum(completion.forced) == (0 if budget is None else min(len(stop), 60 - budget))
