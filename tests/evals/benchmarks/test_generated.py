"""The generated benchmarks: what they ask, that their gold answers earn everything and their bad examples nothing."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.chat import last_flag
from data.records import Prompt
from evals.benchmarks import counter_fact_qa, length_control, ruler, think_follow_noise
from evals.benchmarks.length_control import gap_score
from evals.generated import GENERATED, benchmark_task
from rewards.registry import get_task, user_file
from rewards.task import Example, ScoreRequest, Task, gold_completion, make_prompt
from tests.rewards.leaky_task import registry_as_it_was

TASKS = [counter_fact_qa.TASK, length_control.TASK, ruler.TASK, think_follow_noise.TASK]
"""Taken from their modules: to look them up here would add them to the tasks that other tests collect."""

EXAMPLES = [
    pytest.param(task, example, reward, id=f"{task.name}-{reward}-{index}")
    for task in TASKS
    for reward, examples in ((1.0, task.known_good), (0.0, task.known_bad))
    for index, example in enumerate(examples)
]


def prompts_of(task: Task, level: int, count: int = 30) -> list[Prompt]:
    return [make_prompt(task, seed=3, index=index, difficulty=level) for index in range(count)]


def test_a_generated_benchmark_is_found_by_name_and_is_no_reward_task_of_the_catalogue() -> None:
    with registry_as_it_was():
        found = [benchmark_task(name) for name in GENERATED]
        assert [task.name for task in found] == [task.name for task in TASKS] == list(GENERATED)
        assert all(user_file(task.name) is not None for task in found)
        assert all(benchmark_task(task.name) is get_task(task.name) is task for task in found)  # loaded once
        assert benchmark_task("arithmetic") is get_task("arithmetic")


@pytest.mark.parametrize(("task", "example", "reward"), EXAMPLES)
def test_known_answers_get_the_verdict_that_they_stand_for(task: Task, example: Example, reward: float) -> None:
    assert task.score(example.request(task.name)).reward == reward, example.note


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_the_gold_answer_of_every_level_earns_everything(task: Task) -> None:
    for level in range(min(task.max_difficulty, 6) + 1):
        for prompt in prompts_of(task, level, 12):
            if task.name == "think_follow_noise" and prompt.reference["mode"] == "thinking":
                text = f"<think>\none two three\n</think>\n\n{prompt.reference['answer']}"
            elif task.name == "think_follow_noise":
                text = f"<think>\n\n</think>\n\n{prompt.reference['answer']}"
            else:
                text = gold_completion(task, prompt)
            score = task.score(ScoreRequest(task.name, prompt.messages, prompt.reference, text))
            assert score.reward == 1.0, (level, prompt.messages, text, score)
            assert prompt.domain


def test_prompts_are_the_same_in_every_process() -> None:
    script = (
        "from evals.generated import GENERATED, benchmark_task\nfrom rewards.task import make_prompt\n"
        "print([make_prompt(benchmark_task(n), seed=3, index=1, difficulty=1) for n in GENERATED])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str([make_prompt(task, seed=3, index=1, difficulty=1) for task in TASKS])


# ---------------------------------------------------------------------------------------------- ThinkFollow with noise


@given(st.integers(0, 10_000), st.integers(0, len(think_follow_noise.NOISES) - 1))
@settings(max_examples=60, deadline=None)
def test_noisy_flags_ask_for_what_the_chat_format_reads_apart_from_those_in_the_wrong_case(
    seed: int, level: int
) -> None:
    item = think_follow_noise.generate(random.Random(seed), level)
    read = "non_thinking" if last_flag(item.messages) == "no_think" else "thinking"
    last = str(item.messages[-1]["content"])
    if item.domain == "wrong_case":
        (flag,) = re.findall(r"/[A-Za-z_]+", last)
        assert flag not in ("/think", "/no_think")
        assert item.reference["mode"] == ("non_thinking" if flag.lower() == "/no_think" else "thinking")
    else:
        assert item.reference["mode"] == read
    flags = Counter(re.findall(r"/(?:no_)?think", last))
    if item.domain in ("quoted", "contradictory"):
        assert len(flags) == 2  # one of them is not the user's last word
    if item.domain == "system":
        assert item.messages[0]["role"] == "system"
        assert last_flag(item.messages[:1]) is not None


def test_each_kind_of_noise_asks_for_both_modes() -> None:
    for level, kind in enumerate(think_follow_noise.NOISES):
        prompts = prompts_of(think_follow_noise.TASK, level)
        assert {prompt.domain for prompt in prompts} == {kind}
        assert {prompt.reference["mode"] for prompt in prompts} == {"thinking", "non_thinking"}
        assert all(str(sum(_terms(prompt))) == str(prompt.reference["answer"]) for prompt in prompts)


def _terms(prompt: Prompt) -> list[int]:
    """The terms of the sum asked for last."""
    last = str(prompt.messages[-1]["content"])
    (found,) = re.findall(r"[0-9]+(?: \+ [0-9]+)+", last)
    return [int(term) for term in found.split(" + ")]


# ---------------------------------------------------------------------------------------------- LengthCtrl


@pytest.mark.parametrize(
    ("num_words", "target", "score"),
    [(100, 100, 1.0), (90, 100, 0.9), (110, 100, 0.9), (0, 100, 0.0), (200, 100, 0.0), (999, 100, 0.0), (3, 4, 0.75)],
)
def test_the_score_is_one_minus_the_gap_over_the_target(num_words: int, target: int, score: float) -> None:
    assert gap_score(num_words, target) == pytest.approx(score, abs=1e-12)


@given(st.integers(0, 500), st.integers(1, 400))
def test_the_score_lies_between_nothing_and_one_and_falls_with_the_gap(num_words: int, target: int) -> None:
    score = gap_score(num_words, target)
    assert 0.0 <= score <= 1.0
    assert (score == 1.0) == (num_words == target)
    further = num_words + 1 if num_words >= target else max(0, num_words - 1)
    assert gap_score(further, target) <= score


def test_a_text_near_the_length_is_graded_by_its_gap() -> None:
    text = "Old ships drift home while calm waves sing to gulls."
    request = ScoreRequest("length_control", (), {"words": 8, "topic": "sea"}, text)
    score = length_control.TASK.score(request)
    assert (score.reward, score.outcome) == (0.75, "graded")


def test_a_text_that_cycles_through_few_words_is_padding() -> None:
    cycle = ["old", "grey", "ships", "drift", "home", "under", "cold", "stars", "while", "gulls", "sing", "low"]
    assert length_control.padding(cycle) is None
    assert length_control.padding(cycle * 8) == "too few distinct words"
    assert length_control.padding(("the sea " * 2).split() + list("abcdefgh")) is None


# ---------------------------------------------------------------------------------------------- RULER


@pytest.mark.parametrize("level", [0, 2, 5])
def test_a_context_has_about_the_words_of_its_level_whatever_the_kind(level: int) -> None:
    prompts = prompts_of(ruler.TASK, level, 40)
    assert {prompt.domain for prompt in prompts} == set(ruler.KINDS)
    for prompt in prompts:
        text = str(prompt.messages[0]["content"]).split("\n\n")[0]
        assert 0.9 * ruler.num_words(level) <= len(text.split()) <= 1.1 * ruler.num_words(level) + 16


def test_the_answers_can_be_found_in_the_text_and_have_rivals() -> None:
    for prompt in prompts_of(ruler.TASK, 3, 40):
        text, question = str(prompt.messages[0]["content"]).split("\n\n")
        items = prompt.reference["items"]
        if prompt.domain in ("single", "multi_key", "multi_value"):
            (key,) = re.findall(r"numbers? of (\w+)", question)
            assert sorted(re.findall(rf"number of {key} is (\d+)", text)) == items
            if prompt.domain != "single":
                assert len(re.findall(r"number of \w+ is", text)) > len(items)
        elif prompt.domain == "variable_tracking":
            held = dict(re.findall(r"VAR (\w+) = (\d+)\.", text))
            for new, old in re.findall(r"VAR (\w+) = VAR (\w+)\.", text):
                held[new] = held[old]  # a link never comes before the one that it hangs on
            (value,) = re.findall(r"hold the value (\d+)", question)
            assert sorted(name for name, number in held.items() if number == value) == items
            assert len(set(held.values())) == 2
        else:
            counts = Counter(text.split()).most_common()
            assert sorted(word for word, _ in counts[: ruler.NUM_COMMON]) == items
            assert counts[ruler.NUM_COMMON - 1][1] > 2 * counts[ruler.NUM_COMMON][1]
