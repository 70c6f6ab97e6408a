"""Suites: the shipped ones load and can be asked, and what cannot work is refused by name before anything starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.load import SUITES, list_recipes, load_config, save_config
from data.records import UserError
from evals.benchmarks.registry import get_benchmark
from evals.evaluate import benchmark_prompts
from evals.generated import benchmark_task
from rollout.policy import SamplingConfig
from stages.eval_suite import SuiteConfig, load_suite
from tests.rewards.leaky_task import registry_as_it_was

TINY = """
name: tiny
evaluation:
  benchmarks:
    sums: {task: arithmetic, num_prompts: 4, num_samples: 2}
    flags: {task: mode_flags, modes: [mixed], num_prompts: 4}
  budget_benchmarks: [sums]
"""


@pytest.fixture(autouse=True)
def _registry_as_it_was() -> Iterator[None]:
    with registry_as_it_was():
        yield


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return str(path)


@pytest.mark.parametrize("name", list_recipes(folder=SUITES))
def test_every_shipped_suite_is_valid_and_survives_its_file(name: str, tmp_path: Path) -> None:
    suite = load_suite(name, [])
    assert suite.name == name
    save_config(suite, tmp_path / "saved.yaml")
    assert load_config(SuiteConfig, [tmp_path / "saved.yaml"], []) == suite
    for sampling, expected in (
        (suite.evaluation.thinking, (0.6, 0.95, 20)),
        (suite.evaluation.non_thinking, (0.7, 0.8, 20)),
    ):
        assert (sampling.temperature, sampling.top_p, sampling.top_k) == expected
        assert sampling.max_tokens > SamplingConfig().max_tokens


def test_the_generated_suite_has_prompts_for_every_benchmark_that_its_engine_has_room_for() -> None:
    suite = load_suite("generated", [])
    for name, benchmark in suite.evaluation.benchmarks.items():
        prompts = benchmark_prompts(name, benchmark, suite.evaluation.seed)
        assert benchmark.num_prompts == len(prompts)
        assert benchmark.task is not None
        assert not benchmark_task(benchmark.task).sandboxed, "a suite for any machine"
    needed = {"mode_flags", "think_follow_noise", "length_control", "counter_fact_qa", "tool_call", "tool_use"}
    assert needed | {"tool_workflow", "ruler"} <= {item.task for item in suite.evaluation.benchmarks.values()}


def test_the_standard_suite_names_files_and_the_samples_of_the_report() -> None:
    benchmarks = load_suite("standard", []).evaluation.benchmarks
    assert all(item.file and item.standard for item in benchmarks.values())
    assert [benchmarks[name].num_samples for name in ("aime24", "gpqa_diamond")] == [64, 10]
    assert benchmarks["aime25"].max_tokens == 38_912


def test_the_standard_suite_asks_published_benchmarks_with_their_own_samples_and_lengths() -> None:
    evaluation = load_suite("standard", []).evaluation
    for name, item in evaluation.benchmarks.items():
        assert item.standard is not None
        known = get_benchmark(item.standard)
        assert (known.name, known.num_samples) == (name, item.num_samples)
        assert item.max_tokens in (None, known.max_tokens)
        for sampling in (evaluation.thinking, evaluation.non_thinking):
            assert (item.max_tokens or sampling.max_tokens) == known.max_tokens


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seeds=[]", "seeds: give at least one"),
        ("seeds=[1,1]", "seeds: [1, 1] names one twice"),
        ("pass_at=[3]", "pass_at: 3 needs 3 samples of a prompt, and there are 2; raise num_samples"),
        ("pass_at=[0]", "pass_at: 0 needs 1 samples"),
        ("budgets=[-1]", "budgets: [-1] must be 0 or more tokens"),
        ("evaluation.benchmarks.sums.stages=[base]", "evaluation.benchmarks.sums.stages: a suite has no stages"),
        ("evaluation.stages=[base]", "evaluation.stages: a suite trains no stage"),
        ("evaluation.decontamination_ngram=5", "evaluation.decontamination_ngram: a suite trains no stage"),
        ("evaluation.benchmarks.sums.levels=[99]", "evaluation.benchmarks.sums.levels: 99 is no level of task"),
        ("evaluation.benchmarks.sums.task=null", "evaluation.benchmarks.sums.task, file: give one of the two"),
        ("evaluation.benchmarks.sums.file=x.jsonl", "evaluation.benchmarks.sums.task, file: give one of the two"),
        ("evaluation.benchmarks.sums.standard=gsm8k", "evaluation.benchmarks.sums.standard: goes with file"),
        ("evaluation.benchmarks.sums.max_tokens=0", "evaluation.benchmarks.sums.max_tokens: 0 must be 1 or more"),
        (
            "evaluation.benchmarks.sums.thinking_budget=-1",
            "evaluation.benchmarks.sums.thinking_budget: -1 must be 0 or more",
        ),
        ("evaluation.benchmarks.x.task=arithmetics", "evaluation.benchmarks.x.task 'arithmetics' does not exist"),
        ("nonsense=1", "nonsense: unknown key"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(tiny: str, override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_suite(tiny, [override])
    text = str(caught.value)
    assert text.replace(": ", ".").startswith(message.replace(": ", ".")), text


def test_budgets_need_a_benchmark_to_be_measured_on(tiny: str) -> None:
    with pytest.raises(UserError, match=r"budgets: \[8\] need evaluation\.budget_benchmarks"):
        load_suite(tiny, ["budgets=[8]", "evaluation.budget_benchmarks=[]"])


def test_several_seeds_are_samples_too(tiny: str) -> None:
    assert load_suite(tiny, ["seeds=[0,1]", "pass_at=[4]"]).pass_at == (4,)


def test_a_suite_is_cut_down_to_the_benchmarks_asked_for(tiny: str) -> None:
    assert list(load_suite(tiny, [], only=["sums"]).evaluation.benchmarks) == ["sums"]
    left = load_suite(tiny, ["budgets=[8]"], skip=["sums"])
    assert list(left.evaluation.benchmarks) == ["flags"]
    assert (left.evaluation.budget_benchmarks, left.budgets) == ((), ())
    with pytest.raises(UserError, match=r"--only: 'sum' is no benchmark of suite 'tiny' \(sums, flags\)"):
        load_suite(tiny, [], only=["sum"])
    with pytest.raises(UserError, match="no benchmark of suite 'tiny' is left"):
        load_suite(tiny, [], skip=["sums", "flags"])


def test_an_unknown_suite_is_refused_with_those_there_are() -> None:
    with pytest.raises(UserError, match=r"suite: no suite and no YAML file 'generate'; did you mean 'generated'\?"):
        load_suite("generate", [])
