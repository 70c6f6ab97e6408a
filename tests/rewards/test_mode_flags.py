"""Mode flags: dialogues as asked, the last flag wins, leaks are found."""

from __future__ import annotations

import itertools

import pytest

from rewards.registry import get_task
from rewards.task import ScoreRequest, make_prompt
from rewards.tasks.mode_flags import leak

TASK = get_task("mode_flags")


def _flags(text: str) -> list[str]:
    return [word for word in text.split() if word in ("/think", "/no_think")]


@pytest.mark.parametrize("level", range(3))
def test_the_reference_is_the_mode_of_the_last_flag(level: int) -> None:
    modes = set()
    for index in range(60):
        prompt = make_prompt(TASK, seed=0, index=index, difficulty=level)
        flags = [flag for message in prompt.messages for flag in _flags(message["content"])]
        expected = "non_thinking" if flags and flags[-1] == "/no_think" else "thinking"
        assert prompt.reference["mode"] == prompt.mode == expected
        modes.add(expected)
    assert modes == {"thinking", "non_thinking"}


def test_levels_add_turns_unflagged_turns_system_flags_and_repeated_flags() -> None:
    level_0, level_1, level_2 = (
        [make_prompt(TASK, seed=0, index=index, difficulty=level).messages for index in range(100)]
        for level in range(3)
    )
    users = [[message for message in messages if message["role"] == "user"] for messages in level_0]
    assert {len(turns) for turns in users} == {1, 2, 3}
    assert all(len(_flags(turn["content"])) == 1 for turns in users for turn in turns)
    assert any(messages[0]["role"] == "system" for messages in level_1)
    assert any(message["role"] == "user" and not _flags(message["content"]) for item in level_1 for message in item)
    assert any(len(_flags(message["content"])) > 1 for messages in level_2 for message in messages)
    assert max(len(messages) for messages in level_2) > max(len(messages) for messages in level_0)


def test_history_holds_bare_answers() -> None:
    for index in range(30):
        messages = make_prompt(TASK, seed=0, index=index, difficulty=2).messages
        assert messages[-1]["role"] == "user"
        for question, reply in itertools.pairwise(messages):
            if reply["role"] == "assistant":
                terms = [int(word) for word in question["content"].replace(".", "").split() if word.isdigit()]
                assert reply["content"] == str(sum(terms))


@pytest.mark.parametrize(
    ("text", "leaks"),
    [
        ("7", False),
        ("3 + 4 = 7", False),
        ("The sum is 7. Please await the next one.", False),
        ("Wait, it is 7.", True),
        ("Let’s   think: 7", True),
        ("3+1=4, 4+3=7", True),
        ("word " * 41, True),
        ("word " * 40, False),
    ],
)
def test_visible_reasoning_is_found(text: str, leaks: bool) -> None:
    assert (leak(text) is not None) is leaks


def test_an_unknown_mode_is_a_failure_of_the_verifier() -> None:
    with pytest.raises(ValueError, match="mode 'fast'"):
        TASK.score(ScoreRequest("mode_flags", (), {"mode": "fast"}, "<think>\n\n</think>\n\n7"))
