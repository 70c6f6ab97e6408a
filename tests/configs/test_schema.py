"""Unknown keys, mistyped values and failed validations: each is one line that names the key and its source."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from configs.load import load_config
from data.records import UserError
from tests.configs.example_config import Learner, Recipe, Required

# ---------------------------------------------------------------------------------------------- unknown keys


def test_an_unknown_key_on_the_command_line_is_refused_with_a_suggestion(refusal) -> None:
    message = refusal(Recipe, [], ["learner.optimizer.lrr=1"])
    assert message == "learner.optimizer.lrr: unknown key (from command line); did you mean 'learner.optimizer.lr'?"


def test_an_unknown_key_in_a_file_names_the_file_even_when_a_later_layer_replaces_it(refusal, write) -> None:
    path = write("learner: {num_step: 3}\n")
    message = refusal(Recipe, [path], ["learner.num_steps=4"])
    assert message == f"learner.num_step: unknown key (from {path}); did you mean 'learner.num_steps'?"


def test_a_key_known_elsewhere_is_suggested_with_its_full_path(refusal) -> None:
    assert "did you mean 'learner.optimizer.lr'?" in refusal(Recipe, [], ["lr=1"])


def test_an_unknown_key_without_anything_close_lists_what_is_known(refusal) -> None:
    assert "known here: weight, optimizer" in refusal(Recipe, [], ["tasks.math.zzzz=1"])


def test_an_unknown_key_inside_a_list_like_path_is_refused(refusal) -> None:
    assert "a list is replaced as a whole" in refusal(Recipe, [], ["seeds[0]=1"])


def test_a_number_as_a_dict_key_is_refused(refusal, write) -> None:
    assert "quote 1" in refusal(Recipe, [write("tasks: {1: {weight: 2}}\n")], [])


# ---------------------------------------------------------------------------------------------- mistyped values


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("learner.num_steps=ten", ("learner.num_steps", "expected int", "'ten'", "command line")),
        ("learner.num_steps=true", ("learner.num_steps", "expected int", "True (bool)")),
        ("learner.num_steps=1e3", ("learner.num_steps", "expected int", "1000.0 (float)")),
        ("learner.optimizer.lr=false", ("learner.optimizer.lr", "expected float", "False (bool)")),
        ("learner.optimizer.lr=fast", ("expected float", "'fast' (str)")),
        ("learner.optimizer.lr=.nan", ("expected float", "nan")),
        ("learner.optimizer.lr=null", ("expected float", "null")),
        ("resume=1", ("resume", "expected bool", "1 (int)")),
        ("name=7", ("name", "expected str", "quote it to make it text")),
        ("name=on", ("name", "quote the word")),
        ("learner.algorithm=off", ("one of 'grpo', 'gspo', 'off'", "quote the word")),
        ("learner.num_inner_steps=true", ("one of 1, 2", "True (bool)")),
        ("learner.num_inner_steps=1.0", ("one of 1, 2", "1.0 (float)")),
        ("learner.algorithm=grop", ("one of 'grpo', 'gspo', 'off'", "did you mean 'grpo'?")),
        ("learner.optimizer.betas=[1,2,3]", ("learner.optimizer.betas", "tuple[float, float]", "[1, 2, 3]")),
        ("learner.optimizer.betas=[1,x]", ("learner.optimizer.betas[1]", "expected float", "'x'")),
        ("seeds=3", ("seeds", "tuple[int, ...]", "3 (int)")),
        ("seeds={a: 1}", ("seeds", "a list is replaced as a whole")),
        ("learner=3", ("learner", "a mapping (Learner)")),
        ("learner=null", ("learner", "a mapping (Learner)", "null")),
        ("learner=[1]", ("learner", "a mapping (Learner)", "[1]")),
        ("warm_start=3", ("warm_start", "Path or null", "3 (int)")),
        ("warm_start=''", ("warm_start", "Path or null", "''")),
        ("tasks.math=3", ("tasks.math", "a mapping (TaskWeight)")),
        ("name=???", ("name", "??? is no value")),
        ("name=${nothing.here}", ("name", "nothing.here")),
        ("name=${", ("name=${", "cannot be read")),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_name(refusal, override: str, parts: tuple[str, ...]) -> None:
    message = refusal(Recipe, [], [override])
    assert all(part in message for part in parts), message


def test_a_mistyped_value_names_the_file_that_set_it_last(refusal, write) -> None:
    first = write("learner: {num_steps: ten}\n", "first.yaml")
    second = write("learner: {num_steps: eleven}\nname: x\n", "second.yaml")
    message = refusal(Recipe, [first, second], ["learner.algorithm=gspo"])
    assert str(second) in message
    assert "'eleven'" in message


def test_an_empty_section_in_a_file_is_refused_and_not_taken_for_the_defaults(refusal, write) -> None:
    assert "learner: expected a mapping (Learner), got None (null)" in refusal(Recipe, [write("learner:\n")], [])


def test_a_required_field_that_nobody_set_is_named(refusal, write) -> None:
    assert refusal(Required, [], []) == "model: required; set it in a file or as model=VALUE"
    assert load_config(Required, [write("model: m\n")], []) == Required("m", Learner())


# ---------------------------------------------------------------------------------------------- validation


def test_a_failed_validation_carries_the_dotted_path(refusal) -> None:
    assert refusal(Recipe, [], ["learner.optimizer.lr=-1"]) == "learner.optimizer: lr must be positive, got -1.0"
    assert refusal(Recipe, [], ["tasks.math.optimizer.lr=0"]) == "tasks.math.optimizer: lr must be positive, got 0.0"


@dataclass(frozen=True)
class Inner:
    value: int = 0

    def validate(self) -> None:
        order.append("inner")


@dataclass(frozen=True)
class Outer:
    inner: Inner = Inner()

    def validate(self) -> None:
        order.append("outer")
        raise UserError("outer fails\non two lines")


order: list[str] = []


def test_validation_runs_innermost_first_and_its_message_is_one_line(refusal) -> None:
    order.clear()
    assert refusal(Outer, [], []) == "outer fails on two lines"
    assert order == ["inner", "outer"]


@dataclass(frozen=True)
class Broken:
    value: complex = 1j


def test_a_field_type_that_configs_cannot_hold_is_the_programmers_error_not_the_users() -> None:
    with pytest.raises(TypeError, match="complex"):
        load_config(Broken, [], [])
