"""Which tokens the thinking budget wrote (they carry no loss), on ids small enough to count by hand.

OPEN is 1, CLOSE is 2, the stop-thinking sentence is 7 8 2 9 (it holds CLOSE, as the real one does); 10 and above is
what the policy says.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.chat import STOP_THINKING, THINK_CLOSE, THINK_OPEN
from rollout.forced_tokens import forced_tokens
from tests.data.byte_tokenizer import byte_tokenizer

OPEN, CLOSE = 1, 2
STOP = [7, 8, CLOSE, 9]


def forced_positions(prompt: list[int], tokens: list[int], budget: int | None) -> list[int]:
    marks = forced_tokens(prompt, tokens, open_ids=[OPEN], close_ids=[CLOSE], stop_ids=STOP, budget=budget)
    assert len(marks) == len(tokens)
    return [position for position, mark in enumerate(marks) if mark]


@pytest.mark.parametrize(
    ("case", "prompt", "tokens", "budget", "expected"),
    [
        ("no budget forces nothing, even where the sentence stands", [5], [OPEN, *STOP, 20], None, []),
        ("two tokens of thinking, then the sentence", [5], [OPEN, 10, 11, *STOP, 20], 2, [3, 4, 5, 6]),
        ("words before the block do not count", [5], [30, 31, OPEN, 10, *STOP, 20], 1, [4, 5, 6, 7]),
        ("budget 0 with the block opened by the policy", [5], [OPEN, *STOP, 20], 0, [1, 2, 3, 4]),
        ("budget 0 with the block opened in the prompt", [5, OPEN], [*STOP, 20], 0, [0, 1, 2, 3]),
        ("thinking in the prompt counts", [5, OPEN, 10, 11], [12, *STOP, 20], 3, [1, 2, 3, 4]),
        ("the prompt alone has spent the budget", [5, OPEN, 10, 11, 12], [*STOP, 20], 2, [0, 1, 2, 3]),
        ("a natural end before the budget", [5], [OPEN, 10, CLOSE, 20, 21, 22], 3, []),
        ("a natural end as the last token of the budget", [5], [OPEN, 10, CLOSE, 20, 21], 2, []),
        ("no block at all", [5], [20, 21, 22], 1, []),
        ("the block was over in the prompt", [5, OPEN, CLOSE], [20, 21, 22], 0, []),
        ("a second turn's block, the first being over", [OPEN, 10, CLOSE, 5], [OPEN, 10, *STOP], 1, [2, 3, 4, 5]),
        ("the policy wrote the sentence itself, before the budget", [5], [OPEN, 10, *STOP, 20, 21], 5, []),
        ("… and after it, which the engine does not do", [5], [OPEN, 10, 11, *STOP, 20], 1, []),
        ("cut off after the first id of the sentence", [5], [OPEN, 10, 7], 1, [2]),
        ("cut off inside the sentence", [5], [OPEN, 10, 7, 8, CLOSE], 1, [2, 3, 4]),
        ("cut off just before the sentence", [5], [OPEN, 10], 1, []),
        ("the answer ends like the sentence begins", [5], [OPEN, 10, CLOSE, 20, 7], 3, []),
        ("a block that is opened again is cut off again", [5], [OPEN, 10, *STOP, OPEN, 11, *STOP], 1,
         [2, 3, 4, 5, 8, 9, 10, 11]),
        ("only the second block runs out", [5], [OPEN, CLOSE, 20, OPEN, 11, 12, *STOP, 20], 2, [6, 7, 8, 9]),
        ("nothing was sampled", [5, OPEN], [], 0, []),
    ],
)  # fmt: skip
def test_cases_by_hand(
    case: str, prompt: list[int], tokens: list[int], budget: int | None, expected: list[int]
) -> None:
    assert forced_positions(prompt, tokens, budget) == expected, case


words = st.lists(st.integers(10, 30), max_size=8)


@given(before=words, thinking=words, answer=words, opened_in_prompt=st.booleans(), room=st.integers(0, 20))
def test_what_the_engine_forces_is_found_wherever_it_cuts_off(
    before: list[int], thinking: list[int], answer: list[int], opened_in_prompt: bool, room: int
) -> None:
    budget = len(thinking)
    prompt = [5, OPEN] if opened_in_prompt else [5]
    own = thinking if opened_in_prompt else [*before, OPEN, *thinking]
    tokens = [*own, *STOP, *answer][:room]
    expected = [position for position in range(len(own), len(own) + len(STOP)) if position < len(tokens)]
    assert forced_positions(prompt, tokens, budget) == expected


@given(thinking=words, answer=words, spare=st.integers(0, 5))
def test_a_natural_end_within_the_budget_is_never_forced(thinking: list[int], answer: list[int], spare: int) -> None:
    budget = len(thinking) + 1 + spare
    assert forced_positions([5], [OPEN, *thinking, CLOSE, *answer], budget) == []


def test_the_protocols_own_strings() -> None:
    encode = byte_tokenizer().encode
    thinking, answer = encode("first one, then"), encode("5")
    stop = encode(STOP_THINKING)
    marks = forced_tokens(
        encode("Sum?" + THINK_OPEN),
        [*thinking, *stop, *answer],
        open_ids=encode(THINK_OPEN),
        close_ids=encode(THINK_CLOSE),
        stop_ids=stop,
        budget=len(thinking),
    )
    assert marks == (False,) * len(thinking) + (True,) * len(stop) + (False,)
