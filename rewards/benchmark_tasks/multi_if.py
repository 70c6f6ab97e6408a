"""Scores Multi-IF: three turns of a user, whose instructions add up, each answered and checked.

Area: instruction_following. Reward type: rule.
Verified: the answer of each turn against all instructions that hold by then.
Known hacks: those of `ifeval`; ending the dialogue early.
Guard: the user's turns come from an environment, and a turn that is never answered counts as nothing followed.

The reward is the mean over the turns of four numbers, as published (arXiv 2410.15553): whether all instructions are
followed and which share of them is, each in the strict and in the loose reading. The environment plays the published
user turns one after the other; the policy's own earlier answers stay in the history, without their reasoning.

Departures: the published instruction-level numbers pool the instructions of all dialogues, and this is a mean of means;
turns that a row leaves empty are not played; the checks are those of `ifeval`, made for English first.
"""

from __future__ import annotations

from typing import Any

from data.chat import ParsedCompletion
from data.episodes import Environment, Reply
from data.records import Score
from rewards.benchmark_tasks.ifeval import followed, followed_loosely
from rewards.extract import published_episode_refusal
from rewards.task import Example, ScoreRequest, Task, evaluation_only
from rewards.tool_environment import ANSWERED, require_outcome


class Dialogue:
    """Says the user's turns one after the other; `outcome` is {"answers": […]}, what came back for each."""

    def __init__(self, user_turns: list[str]) -> None:
        self.user_turns = user_turns
        self.answers: list[str] = []

    def step(self, turn: ParsedCompletion) -> Reply:
        self.answers.append(turn.answer)
        if len(self.answers) >= len(self.user_turns):
            return Reply(ended=ANSWERED)
        return Reply(({"role": "user", "content": self.user_turns[len(self.answers)]},))

    def outcome(self) -> dict[str, Any]:
        return {"answers": self.answers}


def environment(reference: Any) -> Environment:
    """The dialogue of the reference."""
    return Dialogue([turn["prompt"] for turn in reference["turns"]])


def turn_accuracy(answer: str, instructions: list[Any]) -> float:
    """Mean of strict and loose, prompt and instruction accuracy of one turn."""
    readings = [followed(answer, instructions), followed_loosely(answer, instructions)]
    values = [value for good in readings for value in (float(all(good)), sum(good) / len(good) if good else 1.0)]
    return sum(values) / len(values)


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """The mean over all turns, those that were never answered included. ValueError without an outcome."""
    turns, answers = request.reference["turns"], require_outcome(request)["answers"]
    accuracies = [turn_accuracy(answer, turn["instructions"]) for turn, answer in zip(turns, answers, strict=False)] + [
        0.0
    ] * (len(turns) - len(answers))
    by_turn = ", ".join(f"{accuracy:.2f}" for accuracy in accuracies)
    return Score.of(sum(accuracies) / len(turns), f"by turn: {by_turn}")


_NO_COMMA, _TITLE = ["punctuation:no_comma", {}], ["detectable_format:title", {}]
_END = ["startend:end_checker", {"end_phrase": "That is all."}]
_TURNS = {
    "turns": [
        {"prompt": "Write about boats without commas.", "instructions": [_NO_COMMA]},
        {"prompt": "Add a title.", "instructions": [_NO_COMMA, _TITLE]},
        {"prompt": "End with: That is all.", "instructions": [_NO_COMMA, _TITLE, _END]},
    ]
}
_FIRST = "Boats come home at night."
_SECOND = f"<<The boats>>\n{_FIRST}"
_THIRD = f"{_SECOND} That is all."


def _example(note: str, *answers: str, ended: str = ANSWERED) -> Example:
    outcome = {"answers": list(answers)}
    return Example(answers[-1] if answers else "", _TURNS, note=note, turns=answers, ended=ended, outcome=outcome)


TASK = Task(
    name="multi_if",
    area="instruction_following",
    reward_type="rule",
    summary="the instructions of three turns, which add up",
    hack="those of `ifeval`; ending early",
    guard="user turns come from an environment; a missing turn counts as 0",
    generate=evaluation_only("multi_if"),
    max_difficulty=0,
    verify=verify,
    reference_keys=("turns",),
    environment=environment,
    turns_needed=(3,),
    refuse=published_episode_refusal,
    known_good=(
        _example("all turns", _FIRST, _SECOND, _THIRD),
        _example("other words", "The sea is calm.", "<<Sea>>\nIt is calm.", "<<Sea>>\nIt is calm. That is all."),
        _example("blanks around", f" {_FIRST}\n", _SECOND, _THIRD),
    ),
    known_bad=(
        _example("nothing was answered", ended="token cap"),
        _example("empty answers", "", "", ""),
        _example("no content", ".", ".", "."),
        _example("commas alone", ",", ",", ","),
    ),
)
