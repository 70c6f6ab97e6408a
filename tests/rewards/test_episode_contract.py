"""What every task with an environment owes: the contract of `test_contract.py` for episodes of several turns."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.chat import THINK_CLOSE
from data.episodes import ENVIRONMENT_ERROR, EpisodeLimits, episode_texts
from data.records import Prompt
from rewards.episodes import demonstrated_turns, gold_episode, play
from rewards.extract import MASTER_KEYS
from rewards.registry import all_tasks, get_task
from rewards.task import ScoreRequest, Task, item_of, make_prompt

TASKS = [task for task in all_tasks() if task.environment is not None]
PER_TASK = pytest.mark.parametrize("task", TASKS, ids=[task.name for task in TASKS])
PER_LEVEL = pytest.mark.parametrize(
    ("task", "difficulty"),
    [
        pytest.param(task, level, id=f"{task.name}-{level}")
        for task in TASKS
        for level in range(task.max_difficulty + 1)
    ],
)
NUM_ITEMS = 40
EXPLORED = {("text_game", 1), ("text_game", 2)}
"""Levels that need more room than the limits give by default; their task says so."""


def _prompts(task: Task, difficulty: int, count: int = NUM_ITEMS) -> list[Prompt]:
    return [make_prompt(task, seed=1, index=index, difficulty=difficulty) for index in range(count)]


def test_the_agent_tasks_are_found() -> None:
    assert {task.name for task in TASKS} >= {
        "text_game", "tool_recovery", "tool_use", "tool_workflow", "user_simulator"
    }  # fmt: skip


@PER_LEVEL
@pytest.mark.parametrize("enable_thinking", [None, False])
def test_demonstrations_without_errors_score_one_within_the_default_limits(
    task: Task, difficulty: int, enable_thinking: bool | None
) -> None:
    for made in _prompts(task, difficulty):
        prompt = replace(made, enable_thinking=enable_thinking)
        gold = gold_episode(task, prompt)
        score = task.score(gold)
        assert score.reward == 1.0, (prompt, gold, score)
        assert set(task.reference_keys) <= prompt.reference.keys()
        if (task.name, difficulty) not in EXPLORED:
            assert play(task, prompt, gold.turns, limits=EpisodeLimits()) == gold


@PER_LEVEL
def test_demonstrations_that_err_at_every_step_mostly_fail(task: Task, difficulty: int) -> None:
    limits = EpisodeLimits(max_turns=64, max_calls=256)
    rewards = [
        task.score(play(task, prompt, demonstrated_turns(task, prompt, error_rate=1.0), limits=limits)).reward or 0.0
        for prompt in _prompts(task, difficulty)
    ]
    assert sum(rewards) / len(rewards) <= 0.2


@PER_LEVEL
def test_demonstrations_reason_in_every_turn_and_end_with_the_policys_turn(task: Task, difficulty: int) -> None:
    assert task.demonstrate is not None
    for prompt in _prompts(task, difficulty, 10):
        for error_rate in (0.0, 0.3):
            messages = task.demonstrate(random.Random(0), item_of(prompt), error_rate)
            assert messages[-1]["role"] == "assistant"
            said = [message for message in messages if message["role"] == "assistant"]
            assert all(message["reasoning_content"].strip() for message in said)
            assert episode_texts(prompt.messages, messages, tools=prompt.tools)


@PER_LEVEL
def test_empty_constant_echoed_and_master_key_episodes_score_zero(task: Task, difficulty: int) -> None:
    keys = sorted(MASTER_KEYS)
    for index, prompt in enumerate(_prompts(task, difficulty, 20)):
        echo = prompt.messages[-1]["content"]
        constants = ("", " \n", "yes", "-1", "0", "done", "out", "missing", "none", "booked", "{}", "Which day?", echo)
        for text in (*constants, keys[index % len(keys)]):
            for block in ("", "<think>\n\n</think>\n\n", "<think>\nwell\n</think>\n\n"):
                request = play(task, prompt, [block + text] * 8)
                assert task.score(request).reward == 0.0, (prompt, block, text)


@PER_LEVEL
def test_any_call_repeated_until_a_cap_ends_it_scores_zero(task: Task, difficulty: int) -> None:
    for prompt in _prompts(task, difficulty, 10):
        gold = gold_episode(task, prompt)
        call = next((turn for turn in gold.turns if "<tool_call>" in turn), None)
        if call is None or len(gold.turns) == 1:
            continue
        for episode in ([call] * 30, [call * 9] * 3, ["<tool_call>\n{}\n</tool_call>"] * 30):
            request = play(task, prompt, episode)
            reward = task.score(request).reward
            assert reward == 0.0 or request.ended == "out", (prompt, request)


@PER_TASK
def test_a_solved_episode_that_is_cut_off_or_out_of_turns_scores_zero_and_an_aborted_one_is_an_error(
    task: Task,
) -> None:
    for prompt in _prompts(task, 0, 5):
        turns = demonstrated_turns(task, prompt)
        truncated = task.score(play(task, prompt, turns, finish_reason="length"))
        assert (truncated.outcome, truncated.reason) == ("incorrect", "truncated")
        assert task.score(play(task, prompt, turns, finish_reason="abort")).outcome == "error"
        if len(turns) > 1:
            assert task.score(play(task, prompt, turns[:-1])).reward == 0.0


@PER_TASK
def test_a_broken_think_block_in_any_turn_scores_zero(task: Task) -> None:
    for prompt in _prompts(task, 0, 5):
        turns = demonstrated_turns(task, replace(prompt, enable_thinking=False))
        for index in range(len(turns)):
            for broken in (
                f"<think>\n{turns[index]}",
                f"{turns[index]}\n</think>\n\n",
                f"x<think></think>{turns[index]}",
            ):
                episode = [*turns[:index], broken, *turns[index + 1 :]]
                assert task.score(play(task, prompt, episode)).reward == 0.0, (prompt, broken)


@PER_TASK
def test_the_reference_is_not_changed_by_an_episode(task: Task) -> None:
    for difficulty in range(task.max_difficulty + 1):
        prompt, again = (make_prompt(task, seed=1, index=0, difficulty=difficulty) for _ in range(2))
        gold_episode(task, prompt)
        assert prompt == again


@PER_TASK
def test_a_completion_that_never_was_in_an_environment_is_an_error_and_not_a_wrong_answer(task: Task) -> None:
    prompt = _prompts(task, 0, 1)[0]
    with pytest.raises(ValueError, match="no outcome"):
        task.decide(ScoreRequest(task.name, prompt.messages, prompt.reference, "5"))


@PER_TASK
def test_an_environment_that_failed_is_an_error_whatever_was_said(task: Task) -> None:
    prompt = _prompts(task, 0, 1)[0]
    failed = replace(gold_episode(task, prompt), ended=f"{ENVIRONMENT_ERROR}: KeyError: 'x'", outcome=None)
    assert task.decide(failed).outcome == "error"  # type: ignore[union-attr]


@PER_TASK
def test_noise_neither_crashes_an_environment_nor_earns_anything(task: Task) -> None:
    prompt = make_prompt(task, seed=3, index=0, difficulty=task.max_difficulty)
    gold = [turn for turn in gold_episode(task, prompt).turns if "<tool_call>" in turn]
    name = gold[0].partition('"name": "')[2].partition('"')[0] if gold else "f"
    fragments = (
        "<think>", THINK_CLOSE, "<tool_call>\n", "\n</tool_call>", f'{{"name": "{name}", "arguments": {{}}}}',
        f'{{"name": "{name}", "arguments": ', '{"do": "go up"}}', '{"do": 3}}', "[" * 200, "null", "1e999", "NaN", "?",
        "<|im_end|>", "<tool_response>", "day", "hour", "\ud800", "\x00",
    )  # fmt: skip

    pieces = st.one_of(st.text(max_size=20), st.sampled_from(fragments))

    @settings(max_examples=60, deadline=None, derandomize=True, database=None)
    @given(st.lists(st.lists(pieces, max_size=8), min_size=1, max_size=5))
    def check(turns: list[list[str]]) -> None:
        request = play(task, prompt, ["".join(turn) for turn in turns])
        assert not request.ended.startswith(ENVIRONMENT_ERROR), request.ended
        assert task.score(request).reward == 0.0

    check()


def test_a_task_of_a_single_turn_cannot_be_played() -> None:
    task = get_task("arithmetic")
    with pytest.raises(ValueError, match="'arithmetic' has no environment"):
        play(task, make_prompt(task, seed=0, index=0, difficulty=0), ["4"])
