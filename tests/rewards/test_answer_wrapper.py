"""Answer wrapper: the words name a form, and the whole answer has to be that form around the right number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.registry import get_task
from rewards.task import ScoreRequest, item_of, make_prompt
from rewards.tasks.answer_wrapper import _WRAPPERS

TASK = get_task("answer_wrapper")
REFERENCE = {"open": "[[", "close": "]]", "answer": "12"}


def _reward(answer: str, reference: dict = REFERENCE) -> float | None:
    return TASK.score(ScoreRequest(TASK.name, (), reference, answer)).reward


def test_level_0_is_short_and_has_a_thousand_prompts() -> None:
    prompts = [make_prompt(TASK, seed=0, index=index, difficulty=0) for index in range(4000)]
    assert len({prompt.messages[0]["content"] for prompt in prompts}) > 1000
    assert all(len(prompt.messages[0]["content"]) <= 90 for prompt in prompts)
    assert all(len(TASK.answer(item_of(prompt))) <= 20 for prompt in prompts)  # type: ignore[misc]


@pytest.mark.parametrize("level", [0, 1, 2])
def test_the_calculation_of_the_prompt_has_the_answer_of_the_reference(level: int) -> None:
    for index in range(100):
        prompt = make_prompt(TASK, seed=1, index=index, difficulty=level)
        calculation = prompt.reference["calculation"]
        assert calculation in prompt.messages[0]["content"]
        terms = calculation.replace("- ", "-").replace("+ ", "").split()
        assert sum(map(int, terms)) == int(prompt.reference["answer"])


@pytest.mark.parametrize("level", [0, 1, 2])
def test_one_wrapper_for_all_requests_earns_its_share_alone(level: int) -> None:
    prompts = [make_prompt(TASK, seed=2, index=index, difficulty=level) for index in range(200)]
    for opening, closing in list(_WRAPPERS.values())[:4]:
        earned = sum(_reward(f"{opening}{p.reference['answer']}{closing}", p.reference) or 0 for p in prompts)
        assert earned / 200 <= 0.35


@pytest.mark.parametrize(
    ("answer", "reward"),
    [("[[12]]", 1.0), (" [[12]]\n", 1.0), ("[[012]]", 0.0), ("[[+12]]", 0.0), ("[12]", 0.0), ("[[[12]]]", 0.0),
     ("[[12]", 0.0), ("[[12]].", 0.0), ("[[12]]\r[[13]]", 0.0)],
)  # fmt: skip
def test_the_form_is_exact(answer: str, reward: float) -> None:
    assert _reward(answer) == reward


@given(st.text(min_size=1, max_size=20).filter(lambda text: text.strip()))
def test_text_before_or_after_the_wrapper_spoils_it(text: str) -> None:
    assert _reward(f"[[12]]{text}") == 0.0
    assert _reward(f"{text}[[12]]") == 0.0


def test_a_reference_without_a_wrapper_is_a_failure_of_the_verifier() -> None:
    with pytest.raises(ValueError, match="neither 'open' nor 'close'"):
        _reward("12", {"open": "", "close": " ", "answer": "12"})
