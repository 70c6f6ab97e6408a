"""JSON answers: what the generator asks for, and references that the schema alone decides."""

from __future__ import annotations

import json

import pytest

from rewards.registry import get_task
from rewards.task import ScoreRequest, make_prompt

TASK = get_task("json_answer")


@pytest.mark.parametrize(("level", "fields"), [(0, {1, 2}), (1, {2, 3}), (2, {2, 3, 4})])
def test_levels_set_the_number_of_fields(level: int, fields: set[int]) -> None:
    references = [make_prompt(TASK, seed=0, index=index, difficulty=level).reference for index in range(80)]
    assert {len(reference["values"]) for reference in references} == fields
    assert all(reference["schema"]["required"] == list(reference["values"]) for reference in references)


def test_the_main_key_varies_over_twelve_words() -> None:
    keys = {
        next(iter(make_prompt(TASK, seed=0, index=index, difficulty=0).reference["values"])) for index in range(300)
    }
    assert len(keys) == 12


@pytest.mark.parametrize(
    ("answer", "reward"),
    [({"age": 3}, 1.0), ({"age": -1}, 0.0), ({"age": 3.5}, 0.0), ({"age": None}, 0.0), ({}, 0.0),
     ({"age": 3, "x": 10**400}, 1.0)],
)  # fmt: skip
def test_without_values_the_schema_decides(answer: object, reward: float) -> None:
    schema = {"type": "object", "properties": {"age": {"type": "integer", "minimum": 0}}, "required": ["age"]}
    request = ScoreRequest("json_answer", (), {"schema": schema, "values": {}}, json.dumps(answer))
    assert TASK.score(request).reward == reward


def test_a_schema_that_is_none_is_a_failure_of_the_verifier() -> None:
    with pytest.raises(ValueError, match="circle"):
        TASK.score(ScoreRequest("json_answer", (), {"schema": {"type": "circle"}, "values": {}}, '{"a": 1}'))
