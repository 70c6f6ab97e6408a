"""The text adventure: moves, keys and doors, the step cost, and the goal that alone is paid."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

from data.chat import parse_completion
from data.episodes import EpisodeLimits
from data.records import Prompt
from rewards.episodes import demonstrated_turns, gold_episode, play
from rewards.registry import get_task
from rewards.task import make_prompt
from rewards.tasks.text_game import GameEnvironment

TASK = get_task("text_game")
ROOMY = EpisodeLimits(max_turns=64, max_calls=256)


def act(*steps: str) -> str:
    return "\n".join(
        f'<tool_call>\n{{"name": "act", "arguments": {json.dumps({"do": step})}}}\n</tool_call>' for step in steps
    )


STATE = {
    "exits": {"attic": {"east": "hall"}, "hall": {"east": "barn", "west": "attic"}, "barn": {"west": "hall"}},
    "exits_shown": True, "here": "hall", "keys": {"attic": "red"}, "doors": {"barn": "red"}, "exit": "red",
}  # fmt: skip


def game() -> GameEnvironment:
    return GameEnvironment({"state": STATE, "par": 8})


def play_steps(world: GameEnvironment, *steps: str) -> list[str]:
    return [world._carry_out({"name": "act", "arguments": {"do": step}}) for step in steps]


def test_the_rooms_answer_what_a_player_sees() -> None:
    world = game()
    assert play_steps(world, "go west", "take key", "go east", "go east", "open door") == [
        "attic; exits east; red key", "red key taken", "hall; exits east, west", "barn; exits west; red door", "out",
    ]  # fmt: skip
    assert world.outcome() == {"out": True, "steps": 5, "here": "barn"}


def test_steps_that_lead_nowhere_are_told_and_counted() -> None:
    world = game()
    answers = play_steps(world, "go north", "take key", "open door", "", "fly", "go east", "open door")
    assert answers[:5] == ["error: you cannot do that here"] * 5
    assert answers[6] == "error: locked, it needs the red key"
    assert world.outcome() == {"out": False, "steps": 7, "here": "barn"}


def test_the_first_level_is_solved_by_the_shortest_way() -> None:
    for index in range(100):
        prompt = make_prompt(TASK, seed=0, index=index, difficulty=0)
        names = prompt.messages[0]["content"].removeprefix("From west to east: ").split(".")[0].split(", ")
        state = prompt.reference["state"]
        start, (key,), (door,) = state["here"], state["keys"], state["doors"]
        place = names.index
        way = abs(place(start) - place(key)) + abs(place(key) - place(door))
        assert prompt.reference["par"] == way + 2 <= 4
        assert len(prompt.messages[0]["content"]) <= 100


def padded(prompt: Prompt, extra: int) -> list[str]:
    """The solution with steps before it that do nothing."""
    return ["<think>\nwell\n</think>\n\n" + act("go up")] * extra + demonstrated_turns(TASK, prompt)


def test_each_step_too_many_costs_a_tenth_and_the_steps_run_out() -> None:
    prompt = next(p for i in range(50) if (p := make_prompt(TASK, seed=0, index=i, difficulty=0)).reference["par"] == 4)
    rewards = [TASK.score(play(TASK, prompt, padded(prompt, extra), limits=ROOMY)).reward for extra in (0, 1, 2)]
    assert rewards == [1.0, 0.9, 0.0]
    exhausted = play(TASK, prompt, padded(prompt, 2), limits=ROOMY)
    assert exhausted.ended == "no steps left"


def test_bad_calls_are_steps_too() -> None:
    prompt = make_prompt(TASK, seed=0, index=0, difficulty=0)
    broken = ["<tool_call>\n{}\n</tool_call>"]
    request = play(TASK, prompt, broken + demonstrated_turns(TASK, prompt), limits=ROOMY)
    assert TASK.score(request).reward == 0.9


def steps_of(prompt: Prompt) -> list[str]:
    return [call["arguments"]["do"] for call in gold_calls(prompt)]


def gold_calls(prompt: Prompt) -> list[dict[str, Any]]:
    world = GameEnvironment(prompt.reference)
    for turn in demonstrated_turns(TASK, prompt):
        world.step(parse_completion(turn))
    return world.calls


def test_several_steps_in_one_turn_are_carried_out_in_order_and_none_after_the_end() -> None:
    prompt = make_prompt(TASK, seed=0, index=0, difficulty=0)
    request = play(TASK, prompt, [act(*steps_of(prompt), "go west", "go west")])
    assert request.outcome["steps"] == prompt.reference["par"]
    assert TASK.score(request).reward == 1.0


def test_no_list_of_steps_that_ignores_the_question_pays() -> None:
    prompts = [make_prompt(TASK, seed=0, index=index, difficulty=0) for index in range(150)]
    for order in permutations(("take key", "open door", "go west", "go east")):
        rewards = [TASK.score(play(TASK, prompt, [act(*order * 3)])).reward or 0.0 for prompt in prompts]
        assert sum(rewards) / len(rewards) < 0.25, order


def test_the_explorer_is_deterministic_and_gets_out_of_every_house() -> None:
    for level in (1, 2):
        for index in range(60):
            prompt = make_prompt(TASK, seed=0, index=index, difficulty=level)
            gold = gold_episode(TASK, prompt)
            assert gold.outcome["steps"] == prompt.reference["par"] == len(gold.turns)
            assert prompt.reference["par"] <= {1: 24, 2: 40}[level]


def test_the_second_door_of_the_last_level_is_a_wall() -> None:
    prompt = make_prompt(TASK, seed=0, index=0, difficulty=2)
    state = prompt.reference["state"]
    world = GameEnvironment(prompt.reference)
    other = next(room for room, colour in state["doors"].items() if colour != state["exit"])
    world.state["here"] = other
    world.state["held"] = [state["doors"][other]]
    assert play_steps(world, "open door") == ["behind this door is a wall"]
    assert world.outcome()["out"] is False
