"""Tool use: levels, what the tools give back, and exact counts."""

from __future__ import annotations

import pytest

from rewards.episodes import demonstrated_turns, gold_episode, play
from rewards.registry import get_task
from rewards.task import make_prompt

TASK = get_task("tool_use")


def _call(field: str, item: object) -> str:
    shown = item if isinstance(item, int) else f'"{item}"'
    return f'<tool_call>\n{{"name": "lookup", "arguments": {{"field": "{field}", "item": {shown}}}}}\n</tool_call>'


def test_levels_are_single_parallel_half_abstaining_and_a_chain() -> None:
    numbers = [
        [len(make_prompt(TASK, seed=0, index=index, difficulty=level).reference["calls"]) for index in range(200)]
        for level in range(4)
    ]
    assert set(numbers[0]) == {1}
    assert set(numbers[1]) == {2, 3}
    assert set(numbers[2]) == {0, 1}
    assert 0.4 < numbers[2].count(0) / 200 < 0.6
    assert set(numbers[3]) == {3, 4, 5}


def test_level_zero_is_short_and_has_many_questions_and_values() -> None:
    prompts = [make_prompt(TASK, seed=0, index=index, difficulty=0) for index in range(2000)]
    assert max(len(prompt.messages[-1]["content"]) for prompt in prompts) <= 40
    assert len({prompt.messages[-1]["content"] for prompt in prompts}) > 800
    answers = [prompt.reference["answer"][0] for prompt in prompts]
    assert max(answers.count(value) for value in set(answers)) / 2000 < 0.03  # a constant earns nothing worth having


def test_the_value_comes_from_the_environment_and_a_neighbour_has_another_entry() -> None:
    prompt = make_prompt(TASK, seed=0, index=0, difficulty=0)
    arguments = prompt.reference["calls"][0]["arguments"]
    right = play(TASK, prompt, [_call(**arguments), str(prompt.reference["answer"][0])])
    assert TASK.score(right).reward == 1.0
    assert right.outcome["calls"] == [{"name": "lookup", "arguments": arguments, "turn": 1, "ok": True}]
    guessed = play(TASK, prompt, [str(prompt.reference["answer"][0])])
    assert TASK.score(guessed).reason == "0 calls, expected 1"


@pytest.mark.parametrize("item", ["47", True, 47.0])
def test_an_argument_of_another_type_is_not_carried_out(item: object) -> None:
    prompt = make_prompt(TASK, seed=0, index=0, difficulty=0)
    arguments = prompt.reference["calls"][0]["arguments"]
    shown = {"47": f'"{arguments["item"]}"', True: "true", 47.0: f"{arguments['item']}.0"}[item]  # type: ignore[index]
    call = _call(**arguments).replace(f'"item": {arguments["item"]}', f'"item": {shown}')
    request = play(TASK, prompt, [call, str(prompt.reference["answer"][0])])
    assert (request.outcome["calls"], request.outcome["bad_calls"]) == ([], 1)
    assert TASK.score(request).reason == "a call was malformed or had wrong arguments"


def test_parallel_calls_have_to_stand_in_one_turn() -> None:
    prompt = make_prompt(TASK, seed=0, index=0, difficulty=1)
    turns = demonstrated_turns(TASK, prompt)
    assert len(turns) == 2
    calls = [_call(**call["arguments"]) for call in prompt.reference["calls"]]
    apart = play(TASK, prompt, [*calls, turns[-1]])
    assert TASK.score(apart).reason == "the calls were not made at once"
    turned = play(TASK, prompt, ["\n".join(reversed(calls)), turns[-1]])
    assert TASK.score(turned).reward == 1.0
    twice = play(TASK, prompt, ["\n".join([*calls, calls[0]]), turns[-1]])
    assert TASK.score(twice).reward == 0.0


def test_the_chain_adds_up_the_orders_over_the_limit() -> None:
    for index in range(30):
        prompt = make_prompt(TASK, seed=0, index=index, difficulty=3)
        reference = prompt.reference
        orders = reference["state"]["orders"][str(reference["calls"][1]["arguments"]["customer"])]
        totals = [reference["state"]["totals"][str(order)] for order in orders]
        assert reference["answer"] == [sum(total for total in totals if total > reference["limit"])]
        assert len(gold_episode(TASK, prompt).turns) == 4


def test_answers_may_be_written_in_the_forms_of_integer_answers() -> None:
    prompt = make_prompt(TASK, seed=0, index=0, difficulty=1)
    *calls, _ = demonstrated_turns(TASK, prompt)
    values = [str(value) for value in prompt.reference["answer"]]
    for answer, reward in (
        (", ".join(values), 1.0),
        (" and ".join(values), 1.0),
        (f"<answer>{', '.join(values)}</answer>", 1.0),
        (f"They are {', '.join(values)}", 0.0),
        (", ".join([*values, "5"]), 0.0),
        (",".join(values), 0.0),  # one number with thousands commas, or several: no commitment
    ):
        assert TASK.score(play(TASK, prompt, [*calls, answer])).reward == reward, answer
