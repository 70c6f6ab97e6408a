"""Precedence, included files, malformed sources, saving, hashes and recipes."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs import load
from configs.load import (
    ABLATIONS,
    SUITES,
    config_hash,
    find_recipe,
    list_recipes,
    load_changed,
    load_config,
    save_config,
    to_dict,
)
from data.records import UserError
from tests.configs.example_config import Learner, Optimizer, Recipe, TaskWeight

# ---------------------------------------------------------------------------------------------- precedence and types


def test_no_source_gives_the_defaults_of_the_dataclass() -> None:
    assert load_config(Recipe, [], []) == Recipe()


def test_later_files_win_over_earlier_ones_and_the_command_line_over_files(write) -> None:
    first = write("learner: {num_steps: 1, optimizer: {lr: 0.1}}\nname: first\n", "first.yaml")
    second = write("learner: {num_steps: 2}\n", "second.yaml")
    config = load_config(Recipe, [first, second], ["name=third", "name=fourth"])
    assert config.learner == Learner(optimizer=Optimizer(lr=0.1), num_steps=2)
    assert config.name == "fourth"


def test_overriding_one_field_keeps_the_other_defaults_of_a_default_instance() -> None:
    config = load_config(Recipe, [], ["learner.optimizer.betas=[0.5,0.6]", "tasks.math.optimizer.betas=[0.1,0.2]"])
    assert config.learner.optimizer == Optimizer(lr=5e-4, betas=(0.5, 0.6))
    assert config.tasks == {"math": TaskWeight(optimizer=Optimizer(lr=2.0, betas=(0.1, 0.2)))}


@pytest.mark.parametrize(
    ("override", "name", "expected"),
    [
        ("resume=true", "resume", True),
        ("seeds=[1,2,3]", "seeds", (1, 2, 3)),
        ("warm_start=runs/a", "warm_start", Path("runs/a")),
        ("warm_start=null", "warm_start", None),
        ("extra=[a,b]", "extra", ["a", "b"]),
        ("name='7'", "name", "7"),
        ("name=''", "name", ""),
        ("name=a=b", "name", "a=b"),
        ("teacher.lr=2", "teacher", Optimizer(lr=2.0)),
        ("tasks={math: {weight: 3}}", "tasks", {"math": TaskWeight(weight=3.0)}),
    ],
)
def test_an_override_becomes_a_value_of_the_declared_type(override: str, name: str, expected: Any) -> None:
    value = getattr(load_config(Recipe, [], [override]), name)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize("text", ["3e-5", "'3e-5'", "3.0e-5", "0.00003"])
def test_a_learning_rate_in_any_spelling_is_a_float(text: str) -> None:
    assert load_config(Recipe, [], [f"learner.optimizer.lr={text}"]).learner.optimizer.lr == 3e-5


def test_an_integer_for_a_float_field_becomes_a_float() -> None:
    lr = load_config(Recipe, [], ["learner.optimizer.lr=2"]).learner.optimizer.lr
    assert (lr, type(lr)) == (2.0, float)


def test_an_interpolation_follows_the_value_that_won(write) -> None:
    config = load_config(Recipe, [write("name: ${learner.algorithm}-run\n")], ["learner.algorithm=gspo"])
    assert config.name == "gspo-run"


# ---------------------------------------------------------------------------------------------- included files


def test_included_files_are_merged_before_the_file_that_names_them(write) -> None:
    write("name: base\nlearner: {num_steps: 3}\n", "parts/base.yaml")
    write("learner: {num_steps: 4}\n", "parts/more.yaml")
    top = write("defaults: [parts/base.yaml, parts/more.yaml]\nname: top\n", "top.yaml")
    config = load_config(Recipe, [top], [])
    assert (config.name, config.learner.num_steps) == ("top", 4)


def test_an_included_file_is_found_beside_the_file_first_then_in_the_configs_folder(
    write, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(load, "CONFIGS", tmp_path / "configs")
    write("name: packaged\n", "configs/models/tiny.yaml")
    top = write("defaults: [models/tiny.yaml]\n", "mine/top.yaml")
    assert load_config(Recipe, [top], []).name == "packaged"
    write("name: beside\n", "mine/models/tiny.yaml")
    assert load_config(Recipe, [top], []).name == "beside"


def test_a_cycle_of_includes_is_refused_and_shown(refusal, write) -> None:
    write("defaults: [b.yaml]\n", "a.yaml")
    write("defaults: [a.yaml]\n", "b.yaml")
    assert "a.yaml -> b.yaml -> a.yaml" in refusal(Recipe, [write("defaults: [b.yaml]\n", "a.yaml")], [])


def test_one_file_included_on_two_branches_is_not_a_cycle(write) -> None:
    write("name: shared\n", "shared.yaml")
    write("defaults: [shared.yaml]\n", "left.yaml")
    write("defaults: [shared.yaml]\n", "right.yaml")
    assert load_config(Recipe, [write("defaults: [left.yaml, right.yaml]\n", "top.yaml")], []).name == "shared"


def test_a_missing_include_names_the_entry(refusal, write) -> None:
    assert "'nowhere.yaml'" in refusal(Recipe, [write("defaults: [nowhere.yaml]\n")], [])


@pytest.mark.parametrize("text", ["defaults: a.yaml\n", "defaults: [1]\n", "defaults:\n", "defaults: [{a: b}]\n"])
def test_includes_that_are_not_a_list_of_paths_are_refused(refusal, write, text: str) -> None:
    assert "must be a list of YAML paths" in refusal(Recipe, [write(text)], [])


# ---------------------------------------------------------------------------------------------- malformed sources


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("name", "key=value"),
        ("=3", "key=value"),
        ("name=", "has no value"),
        ("name=  ", "has no value"),
        ("seeds=[1,", "cannot be read"),
    ],
)
def test_a_malformed_argument_is_refused(refusal, override: str, part: str) -> None:
    message = refusal(Recipe, [], [override])
    assert repr(override) in message
    assert part in message


def test_a_duplicated_key_in_a_file_is_refused_with_its_line(refusal, write) -> None:
    path = write("name: a\nresume: true\nname: b\n")
    assert refusal(Recipe, [path], []) == f"{path}:3: not valid YAML: found duplicate key name"


def test_a_syntax_error_is_refused_with_its_line(refusal, write) -> None:
    path = write("name: a\nseeds: [1}\nresume: true\n")
    assert refusal(Recipe, [path], []).startswith(f"{path}:2: not valid YAML")


@pytest.mark.parametrize("text", ["- 1\n", "3\n"])
def test_a_file_that_is_no_mapping_is_refused(refusal, write, text: str) -> None:
    path = write(text)
    assert str(path) in refusal(Recipe, [path], [])


def test_an_empty_file_changes_nothing(write) -> None:
    assert load_config(Recipe, [write("# nothing yet\n")], []) == Recipe()


def test_a_missing_folder_or_binary_file_is_refused(refusal, tmp_path: Path) -> None:
    assert "no such config file" in refusal(Recipe, [tmp_path / "gone.yaml"], [])
    assert str(tmp_path) in refusal(Recipe, [tmp_path], [])
    binary = tmp_path / "b.yaml"
    binary.write_bytes(b"\xff\xfe\x00name: \x80")
    assert str(binary) in refusal(Recipe, [binary], [])


# ---------------------------------------------------------------------------------------------- saving and hashing


@given(
    name=st.text(alphabet=st.characters(blacklist_categories=("Cs", "Cc")), max_size=20).filter(
        lambda text: text != "???"
    ),
    lr=st.floats(min_value=1e-30, allow_nan=False, allow_infinity=True),
    seeds=st.lists(st.integers(), max_size=4),
)
def test_a_saved_config_loads_as_an_equal_one(tmp_path_factory, name: str, lr: float, seeds: list[int]) -> None:
    path = tmp_path_factory.mktemp("saved") / "config.yaml"
    config = Recipe(name=name, learner=Learner(optimizer=Optimizer(lr=lr)), seeds=tuple(seeds))
    save_config(config, path)
    assert load_config(Recipe, [path], []) == config


@pytest.mark.parametrize(
    "text", ["${learner.num_steps}", r"\${x}", r"a\\${x}b", "${", "on", "3e-5", "null", "", "1:30"]
)
def test_text_that_yaml_could_misread_survives_saving(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    save_config(Recipe(name=text), path)
    assert load_config(Recipe, [path], []).name == text


def test_saving_leaves_no_partial_file_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("old: 1\n")
    save_config(Recipe(), path)
    assert [file.name for file in tmp_path.iterdir()] == ["config.yaml"]
    assert "old" not in path.read_text()


def test_to_dict_holds_only_json_containers() -> None:
    assert to_dict(Learner()) == {
        "optimizer": {"lr": 5e-4, "betas": [0.9, 0.95]},
        "num_steps": 10,
        "algorithm": "grpo",
        "num_inner_steps": 1,
    }
    with pytest.raises(TypeError, match="dataclass or mapping"):
        to_dict([1])


def test_the_hash_ignores_key_order_but_no_value() -> None:
    assert config_hash({"a": 1, "b": [1, 2]}) == config_hash({"b": [1, 2], "a": 1})
    assert config_hash(Learner()) == config_hash(to_dict(Learner()))
    different = [{"a": 1}, {"a": 2}, {"a": 1.0}, {"a": "1"}, {"a": True}, {"b": 1}, {"a": [1]}, {"a": None}]
    assert len({config_hash(value) for value in different}) == len(different)


def test_the_hash_is_pinned_so_that_finished_stages_are_found_again() -> None:
    # sha256 of the text {"a":[1,2.5],"b":"é"} with é as \u00e9, worked out with sha256sum.
    expected = "60d4fe7d84d09285a774fa6c850ed0e739e0153890529471751ae4df4e1df886"
    assert config_hash({"b": "é", "a": (1, 2.5)}) == expected


def test_the_hash_does_not_depend_on_the_process() -> None:
    code = "from configs.load import config_hash; print(config_hash({'b': {'y': 1, 'x': 2}, 'a': (1, 2)}))"
    root = str(Path(__file__).resolve().parents[2])
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": root, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert found == {config_hash({"a": [1, 2], "b": {"x": 2, "y": 1}}) + "\n"}


def test_what_has_no_order_or_no_json_form_cannot_be_hashed() -> None:
    for value in ({"a": {1, 2}}, {1: 2}, {"a": b"x"}):
        with pytest.raises(TypeError):
            config_hash(value)


# ---------------------------------------------------------------------------------------------- recipes


def test_a_recipe_is_found_by_name_and_a_file_by_path(write, tmp_path: Path) -> None:
    shipped = write("name: q\n", "recipes/quickstart.yaml")
    mine = write("name: m\n", "mine.yaml")
    assert list_recipes(folder=tmp_path / "recipes") == ["quickstart"]
    assert find_recipe("quickstart", folder=tmp_path / "recipes") == shipped
    assert find_recipe(str(mine), folder=tmp_path / "recipes") == mine


@pytest.mark.parametrize("name", ["quickstrat", "quickstart.yaml", "recipes/quickstart.yml"])
def test_an_unknown_recipe_is_refused_with_the_nearest_and_the_list(write, tmp_path: Path, name: str) -> None:
    for recipe in ("quickstart", "full"):
        write("name: q\n", f"recipes/{recipe}.yaml")
    with pytest.raises(UserError) as caught:
        find_recipe(name, folder=tmp_path / "recipes")
    assert repr(name) in str(caught.value)
    assert "did you mean 'quickstart'? (recipes: full, quickstart)" in str(caught.value)


# ---------------------------------------------------------------------------------------------- changing a config


def test_changes_are_merged_key_by_key_and_dotted_keys_are_paths() -> None:
    config = load_config(Recipe, [], ["learner.num_steps=7", "name=first"])
    changed = load_changed(config, {"learner.optimizer.lr": 0.25, "learner": {"num_steps": 9}}, source="here")
    assert changed.learner.optimizer == dataclasses.replace(config.learner.optimizer, lr=0.25)
    assert (changed.learner.num_steps, changed.name) == (9, "first")
    assert load_changed(config, {}, source="here") == config


def test_what_is_replaced_starts_from_the_dataclass_and_not_from_what_was_there() -> None:
    config = load_config(
        Recipe, [], ["learner.num_steps=7", "tasks.math.optimizer.lr=0.5", "tasks.code.optimizer.lr=0.5"]
    )
    merged = load_changed(config, {"tasks": {"math": {}}}, source="here")
    replaced = load_changed(config, {}, replaced={"tasks": {"math": {}}, "learner": {}}, source="here")
    assert list(merged.tasks) == ["math", "code"]
    assert replaced.tasks == {"math": TaskWeight()}
    assert replaced.learner == Recipe().learner


def test_text_that_looks_like_a_reference_stays_text_in_a_changed_config() -> None:
    config = load_changed(Recipe(), {"name": "\\${learner}"}, source="here")
    assert config.name == "${learner}"
    assert load_changed(config, {"learner.num_steps": 3}, source="here").name == "${learner}"


def test_a_change_that_does_not_fit_names_its_source() -> None:
    for changes, message in (
        ({"learner.num_step": 1}, "learner.num_step: unknown key (from variant x); did you mean 'learner.num_steps'?"),
        ({"learner.num_steps": "many"}, "learner.num_steps: expected int, got 'many' (str) (from variant x)"),
    ):
        with pytest.raises(UserError) as caught:
            load_changed(Recipe(), changes, source="variant x")
        assert str(caught.value) == message


def test_an_ablation_or_suite_that_is_not_there_is_called_by_its_kind() -> None:
    assert find_recipe("stages", folder=ABLATIONS, kind="ablation").name == "stages.yaml"
    with pytest.raises(
        UserError, match=r"^ablation: no ablation and no YAML file 'stagse'; did you mean 'stages'\? \(ablations: "
    ):
        find_recipe("stagse", folder=ABLATIONS, kind="ablation")
    assert find_recipe("generated", folder=SUITES, kind="suite").name == "generated.yaml"
    suites = r"\(suites: embedded, generated, serving, standard\)$"
    with pytest.raises(UserError, match=r"^suite: no suite and no YAML file 'x' " + suites):
        find_recipe("x", folder=SUITES, kind="suite")
