"""What every reward task owes, checked for each one that is registered."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.records import Prompt, Score, UserError
from rewards.extract import MASTER_KEYS
from rewards.registry import all_tasks, get_task
from rewards.task import (
    Area,
    Example,
    RewardType,
    ScoreRequest,
    Task,
    completion_text,
    gold_completion,
    item_of,
    make_prompt,
)

TASKS = all_tasks()
PER_TASK = pytest.mark.parametrize("task", TASKS, ids=[task.name for task in TASKS])
SINGLE_TURN = [task for task in TASKS if task.environment is None]  # the others: test_episode_contract.py
LEVELS = [(task, level) for task in TASKS for level in range(task.max_difficulty + 1)]
PER_SINGLE_TURN_TASK = pytest.mark.parametrize("task", SINGLE_TURN, ids=[task.name for task in SINGLE_TURN])
PER_SINGLE_TURN_LEVEL = pytest.mark.parametrize(
    ("task", "difficulty"),
    [pytest.param(task, level, id=f"{task.name}-{level}") for task, level in LEVELS if task.environment is None],
)
PER_EXAMPLE = [
    pytest.param(task, example, index < len(task.known_good), id=f"{task.name}-{example.note or index}")
    for task in TASKS
    for index, example in enumerate(task.known_good + task.known_bad)
]
NUM_ITEMS = 50


def _prompts(task: Task, difficulty: int, count: int = NUM_ITEMS) -> list[Prompt]:
    return [make_prompt(task, seed=1, index=index, difficulty=difficulty) for index in range(count)]


def _decision(task: Task, prompt: Prompt, completion: str) -> Score | None:
    request = ScoreRequest(task.name, prompt.messages, prompt.reference, completion, prompt.enable_thinking)
    return task.decide(request)


def _reward(task: Task, prompt: Prompt, completion: str) -> float | None:
    request = ScoreRequest(task.name, prompt.messages, prompt.reference, completion, prompt.enable_thinking)
    return task.score(request).reward


def test_the_rule_tasks_are_found() -> None:
    assert {task.name for task in TASKS} >= {
        "arithmetic", "countdown", "json_answer", "knights_knaves", "length", "math", "mode_flags", "tag_hygiene",
        "tool_call",
    }  # fmt: skip


@PER_TASK
def test_metadata_and_docstring_say_what_is_verified_and_how_it_is_cheated(task: Task) -> None:
    assert task.area in get_args(Area)
    assert task.reward_type in get_args(RewardType)
    assert all((task.summary, task.hack, task.guard))
    assert len(task.known_good) >= 3
    assert len(task.known_bad) >= 8
    docstring = sys.modules[task.verify.__module__].__doc__ or ""
    for part in (f"Area: {task.area}.", "Reward type: ", "Verified: ", "Known hack", "Guard: "):
        assert part in docstring, f"{task.name}: docstring lacks {part!r}"


@PER_SINGLE_TURN_LEVEL
def test_gold_answers_of_the_generator_score_one(task: Task, difficulty: int) -> None:
    for prompt in _prompts(task, difficulty):
        if task.reward_type == "preference_model":  # the gate lets it pass, and the model rates it
            assert _decision(task, prompt, gold_completion(task, prompt)) is None, prompt
        else:
            assert _reward(task, prompt, gold_completion(task, prompt)) == 1.0, prompt
        assert set(task.reference_keys) <= prompt.reference.keys()


@PER_SINGLE_TURN_LEVEL
def test_empty_constant_and_echoed_answers_score_zero(task: Task, difficulty: int) -> None:
    for prompt in _prompts(task, difficulty, 20):
        echo = prompt.messages[-1]["content"]
        for completion in ("", " \n", "yes", "-1", "0", "{}", "[]", "null", "\\boxed{}", "<answer></answer>", echo):
            assert _reward(task, prompt, completion) == 0.0, (prompt, completion)


@PER_SINGLE_TURN_TASK
def test_master_keys_score_zero_in_either_mode(task: Task) -> None:
    for prompt in _prompts(task, 0, 4):
        for key in [*sorted(MASTER_KEYS), ":", ".", "Solution:", "Let’s solve this problem step by step."]:
            for block in ("", "<think>\n\n</think>\n\n", "<think>\n3+4=7, so 7.\n</think>\n\n"):
                assert _reward(task, prompt, block + key) == 0.0, (prompt, block, key)


@PER_SINGLE_TURN_LEVEL
def test_answers_inside_unfinished_or_broken_thinking_score_zero(task: Task, difficulty: int) -> None:
    assert task.answer is not None
    for prompt in _prompts(task, difficulty, 10):
        gold = task.answer(item_of(prompt))
        for completion in (
            f"<think>\n{gold}",
            f"<think>\n{gold}\n</think>\n\n",
            f"{gold}\n</think>\n\n",
            f"<think>\na b c\n</think>\n\n<think>\n{gold}",
            f"x <think>\na b c\n</think>\n\n{gold}",
            f"<think>\na b c\n</think>\n\n</think>\n\n{gold}",
        ):
            assert _reward(task, prompt, completion) == 0.0, (prompt, completion)


@PER_SINGLE_TURN_LEVEL
def test_a_second_different_box_spoils_the_answer(task: Task, difficulty: int) -> None:
    assert task.answer is not None
    for prompt in _prompts(task, difficulty, 10):
        gold = task.answer(item_of(prompt))
        for completion in (f"{gold} \\boxed{{-999}}", f"\\boxed{{-999}} {gold}"):
            assert _reward(task, prompt, completion) == 0.0, (prompt, completion)


@PER_SINGLE_TURN_TASK
def test_truncated_gold_is_incorrect_and_aborted_gold_is_an_error(task: Task) -> None:
    prompt = _prompts(task, 0, 1)[0]
    base = (task.name, prompt.messages, prompt.reference, gold_completion(task, prompt), prompt.enable_thinking)
    truncated = task.score(ScoreRequest(*base, finish_reason="length"))
    assert (truncated.outcome, truncated.reason) == ("incorrect", "truncated")
    assert task.score(ScoreRequest(*base, finish_reason="abort")).outcome == "error"


@pytest.mark.parametrize(("task", "example", "good"), PER_EXAMPLE)
def test_known_examples_get_their_verdict(task: Task, example: Example, good: bool) -> None:
    if good and task.reward_type == "preference_model":
        assert task.decide(example.request(task.name)) is None
        return
    score = task.score(example.request(task.name))
    assert score.outcome == ("correct" if good else "incorrect"), score.reason


REASONING = [task for task in TASKS if task.area == "reasoning"]


@pytest.mark.parametrize("task", REASONING, ids=[task.name for task in REASONING])
def test_worked_solutions_are_right_without_errors_and_mostly_wrong_with_them(task: Task) -> None:
    assert task.work is not None
    num_items = 10 if task.sandboxed else NUM_ITEMS  # a process each
    for difficulty in range(task.max_difficulty + 1):
        rewards: dict[float, float] = {}
        for rate in (0.0, 1.0):
            earned = 0.0
            for index, prompt in enumerate(_prompts(task, difficulty, num_items)):
                worked = task.work(random.Random(index), item_of(prompt), rate)
                assert worked.reasoning.strip()
                earned += _reward(task, prompt, completion_text(worked, "thinking")) or 0.0
            rewards[rate] = earned / num_items
        assert rewards[0.0] == 1.0
        assert rewards[1.0] <= 0.2, f"level {difficulty}: {rewards}"


def test_the_same_seed_gives_the_same_items_whatever_the_hash_seed_is() -> None:
    program = (
        "import hashlib\n"
        "from rewards.episodes import gold_episode\n"
        "from rewards.registry import all_tasks\n"
        "from rewards.task import gold_completion, make_prompt\n"
        "for task in all_tasks():\n"
        "    for level in range(task.max_difficulty + 1):\n"
        "        prompts = [make_prompt(task, seed=7, index=i, difficulty=level) for i in range(20)]\n"
        "        gold = gold_completion if task.environment is None else gold_episode\n"
        "        text = repr([(prompt, gold(task, prompt)) for prompt in prompts])\n"
        "        print(task.name, level, hashlib.sha256(text.encode()).hexdigest())\n"
    )
    root = str(Path(__file__).parents[2])
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program], env=os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": root},
            capture_output=True, text=True, check=True, timeout=120,
        ).stdout
        for hash_seed in ("1", "2")
    ]  # fmt: skip
    assert outputs[0] == outputs[1]
    assert len(outputs[0].splitlines()) == len(LEVELS)


@PER_TASK
def test_seed_and_index_change_the_items(task: Task) -> None:
    first, other_seed = (
        {repr(make_prompt(task, seed=seed, index=index, difficulty=0).messages) for index in range(40)}
        for seed in (1, 2)
    )
    assert len(first) >= 15
    assert first != other_seed


@PER_TASK
def test_a_level_that_does_not_exist_is_refused(task: Task) -> None:
    with pytest.raises(UserError, match=f"choose a level from 0 to {task.max_difficulty}"):
        make_prompt(task, seed=0, index=0, difficulty=task.max_difficulty + 1)


FUZZ_LEVEL = {"arithmetic": 9, "math": 2}
FRAGMENTS = (
    "<think>", "\\boxed{", "}", "<answer>", "</answer>", "<tool_call>", "</tool_call>", '{"', '":', "**", "9^", "(",
    "\\frac", "=", "knight", "A:", "`", "\ud800", "\x00",
)  # fmt: skip


@PER_SINGLE_TURN_TASK
def test_noise_neither_crashes_a_scorer_nor_earns_anything(task: Task) -> None:
    level = FUZZ_LEVEL.get(task.name, 0)
    prompts = (make_prompt(task, seed=3, index=index, difficulty=level) for index in range(100))
    prompt = next(prompt for prompt in prompts if prompt.mode == "thinking")  # an empty block has to earn nothing

    @settings(max_examples=100, deadline=None, derandomize=True, database=None)
    @given(st.lists(st.one_of(st.text(max_size=20), st.sampled_from(FRAGMENTS)), max_size=12))
    def check(pieces: list[str]) -> None:
        text = "".join(pieces)
        for completion in (text, f"<think>\n\n</think>\n\n{text}"):
            assert _reward(task, prompt, completion) == 0.0

    check()


def test_an_unknown_task_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match="'arithmetics' does not exist: did you mean 'arithmetic'"):
        get_task("arithmetics")
