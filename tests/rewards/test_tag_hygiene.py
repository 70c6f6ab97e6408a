"""Tag hygiene: both kinds of item appear, and no special token of the format passes."""

from __future__ import annotations

import pytest

from data.chat import SPECIAL_TOKENS
from rewards.registry import get_task
from rewards.task import ScoreRequest, make_prompt

TASK = get_task("tag_hygiene")
BLOCK = "<think>\n3+4=7\n</think>\n\n"
TWIN = {"open": "`", "close": "`", "answer": "<b>", "alone": False}


@pytest.mark.parametrize("token", sorted(SPECIAL_TOKENS))
def test_no_special_token_passes_in_an_answer(token: str) -> None:
    score = TASK.score(ScoreRequest("tag_hygiene", (), TWIN, f"{BLOCK}`<b>` {token} and more"))
    assert score.reward == 0.0


def test_half_of_the_items_are_benign_twins() -> None:
    for level in (0, 1):
        twins = sum(
            not make_prompt(TASK, seed=0, index=index, difficulty=level).reference["alone"] for index in range(400)
        )
        assert 0.42 < twins / 400 < 0.58


def test_answering_without_brackets_loses_the_twins() -> None:
    assert TASK.score(ScoreRequest("tag_hygiene", (), TWIN, f"{BLOCK}`b`")).reward == 0.0
    assert TASK.score(ScoreRequest("tag_hygiene", (), TWIN, f"{BLOCK}It is `<b>`.")).reward == 1.0
