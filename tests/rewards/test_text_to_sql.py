"""Questions about tables: two databases tell constants and nearly right queries apart from the right one."""

from __future__ import annotations

import random

import pytest

from rewards.registry import get_task
from rewards.sql_databases import open_database, run_query
from rewards.task import ScoreRequest, item_of, make_prompt

TASK = get_task("text_to_sql")
LEVELS = range(TASK.max_difficulty + 1)


def _reward(prompt, completion: str) -> float | None:
    return TASK.score(ScoreRequest(TASK.name, prompt.messages, prompt.reference, completion)).reward


@pytest.mark.parametrize("level", LEVELS)
def test_the_rows_of_one_database_and_nearly_right_queries_earn_nothing(level: int) -> None:
    for index in range(12):
        prompt = make_prompt(TASK, seed=0, index=index, difficulty=level)
        reference = prompt.reference
        assert _reward(prompt, reference["query"] + ";") == 1.0
        for slip in reference["slips"]:
            assert _reward(prompt, slip) == 0.0, slip
        for seed in reference["seeds"]:
            rows = run_query(open_database(reference["schema"], seed), reference["schema"], reference["query"])
            assert rows
            constant = "VALUES " + ", ".join("(" + ", ".join(map(repr, row)) + ")" for row in rows)
            assert _reward(prompt, f"SELECT * FROM ({constant})") == 0.0


def test_the_order_counts_only_where_it_is_asked_for() -> None:
    found = set()
    for index in range(60):
        prompt = make_prompt(TASK, seed=0, index=index, difficulty=1)
        reference = prompt.reference
        ordered = "first" in prompt.messages[-1]["content"]
        assert reference["ordered"] == ordered
        backwards = f"SELECT * FROM ({reference['query']}) ORDER BY 1 DESC"
        if not ordered:
            assert _reward(prompt, backwards) == 1.0
        found.add(ordered)
    assert found == {True, False}


def test_level_0_is_short_and_varied() -> None:
    prompts = [make_prompt(TASK, seed=0, index=index, difficulty=0) for index in range(300)]
    assert len({prompt.messages[-1]["content"] for prompt in prompts}) > 220
    for prompt in prompts:
        assert len(prompt.messages[-1]["content"]) <= 100
        assert len(prompt.reference["query"]) <= 60


def test_a_reference_query_that_does_not_run_is_the_verifiers_failure() -> None:
    prompt = make_prompt(TASK, seed=0, index=0, difficulty=0)
    broken = {**prompt.reference, "query": "SELECT missing FROM sales"}
    with pytest.raises(ValueError, match="no such"):
        TASK.score(ScoreRequest(TASK.name, prompt.messages, broken, "SELECT 1"))


def test_a_wrong_step_leads_to_another_query() -> None:
    prompt = make_prompt(TASK, seed=0, index=0, difficulty=2)
    assert TASK.work is not None
    assert TASK.work(random.Random(0), item_of(prompt), 0.0).answer == prompt.reference["query"]
    wrong = TASK.work(random.Random(0), item_of(prompt), 1.0).answer
    assert wrong in prompt.reference["slips"]
    assert _reward(prompt, wrong) == 0.0
