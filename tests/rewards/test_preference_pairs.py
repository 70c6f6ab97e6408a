"""Generated pairs: the better answer passes the gate, the worse one is worse in its way, and length says nothing."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from data.preference import PreferencePair, pairs_hash
from data.records import UserError
from rewards.preference_pairs import FAULTS, TASKS, generate_pairs
from rewards.registry import get_task
from rewards.task import ScoreRequest, make_prompt

PAIRS = generate_pairs(1600, seed=0)


def test_chosen_answers_pass_the_gate_of_their_task() -> None:
    for index, pair in enumerate(PAIRS[:160]):
        prompt = make_prompt(get_task(pair.task), seed=0, index=index, difficulty=0)
        assert prompt.messages == pair.messages
        request = ScoreRequest(pair.task, prompt.messages, prompt.reference, pair.chosen)
        assert get_task(pair.task).decide(request) is None, pair


@pytest.mark.parametrize("task", sorted(TASKS))
def test_length_alone_predicts_nothing(task: str) -> None:
    pairs = [pair for pair in PAIRS if pair.task == task]
    longer = [len(pair.chosen) > len(pair.rejected) for pair in pairs]
    assert sum(longer) == len(pairs) / 2
    assert all(len(pair.chosen) != len(pair.rejected) for pair in pairs)
    logs = [math.log(len(pair.chosen) / len(pair.rejected)) for pair in pairs]
    assert abs(sum(logs) / len(logs)) < 0.15


def test_no_fault_gives_itself_away_by_length() -> None:
    for task, faults in FAULTS.items():
        for fault in faults:
            found = [len(p.chosen) > len(p.rejected) for p in PAIRS if (p.task, p.note) == (task, fault)]
            assert len(found) >= 20
            assert 0.2 < sum(found) / len(found) < 0.8, (task, fault)


def _pairs_with(note: str) -> list[PreferencePair]:
    return [pair for pair in PAIRS if pair.note == note]


def test_faults_are_what_they_are_called() -> None:
    for pair in _pairs_with("no name") + _pairs_with("another name"):
        name = next(word for word in pair.chosen.replace(",", " ").replace(".", " ").replace("!", " ").split()
                    if word in str(pair.messages) and word[0].isupper() and word not in pair.rejected)  # fmt: skip
        assert name in pair.messages[-1]["content"]
    for pair in _pairs_with("role dropped"):
        assert pair.rejected.startswith("Hello ")
    for pair in _pairs_with("shuffled"):
        assert pair.rejected != pair.chosen
    for pair in PAIRS:
        assert pair.chosen != pair.rejected


def test_tasks_come_in_turn_and_a_longer_list_begins_with_the_shorter() -> None:
    assert set(Counter(pair.task for pair in PAIRS).values()) == {400}
    assert generate_pairs(40, seed=0) == PAIRS[:40]
    assert generate_pairs(40, seed=1) != PAIRS[:40]
    assert {pair.task for pair in generate_pairs(6, seed=0, tasks=("chat", "role_play"))} == {"chat", "role_play"}


@pytest.mark.parametrize("difficulty", [1, 2, 3])
def test_higher_levels_have_pairs_too(difficulty: int) -> None:
    pairs = generate_pairs(200, seed=0, difficulty=difficulty)
    assert sum(len(pair.chosen) > len(pair.rejected) for pair in pairs) == 100


def test_pairs_do_not_hang_on_the_hash_seed() -> None:
    program = (
        "from data.preference import pairs_hash\n"
        "from rewards.preference_pairs import generate_pairs\n"
        "print(pairs_hash(generate_pairs(40, seed=0)))\n"
    )
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": root}
    found = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout.strip() == pairs_hash(PAIRS[:40])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"count": 0}, "num_pairs: 0"), ({"tasks": ("arithmetic",)}, "'arithmetic' has no generator"),
     ({"tasks": ()}, "none is named"), ({"difficulty": 9}, "choose a level from 0 to 3")],
)  # fmt: skip
def test_what_cannot_be_generated_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        generate_pairs(**({"count": 4, "seed": 0} | arguments))
