"""Verdicts over figures worked out by hand: what passes, what fails, and that nothing fails in silence."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.load import GATES, list_recipes
from data.records import UserError
from evals.measurement import Measurement, Sample
from serving.figures import (
    ContractFigures,
    FileFigures,
    GapFigures,
    LoadFigures,
    Unmeasured,
    logprob_gaps,
    scores_of,
)
from serving.gates import Verdict, failed, judge, lineage_faults, paired_difference, percentile, resolution
from serving.gates_config import BenchmarkGate, GatesConfig, LicenceGate, PromotionConfig, load_gates
from serving.measured_engine import MeasuredEngine, measured_engine
from serving.server_config import ServeConfig
from stages.eval_suite import load_suite
from stages.gate_measuring import require_measured
from tests.serving.gate_figures import FAST, FOLLOW, SUMS, gates, good_figures, lineage, scores


def by_gate(verdicts: list[Verdict]) -> dict[str, Verdict]:
    found = {verdict.gate: verdict for verdict in verdicts}
    assert len(found) == len(verdicts)
    return found


def test_a_candidate_that_is_as_good_as_the_current_one_passes_every_gate() -> None:
    verdicts = judge(gates(), good_figures())
    assert {verdict.status for verdict in verdicts} == {"passed"}
    assert [verdict.gate for verdict in verdicts] == [
        "files", "template", "lineage", "engine", "log-probabilities", "sums, thinking",
        "against current: sums, thinking", "against current: think_follow, mixed", "ThinkFollow", "load", "first token",
    ]  # fmt: skip


def test_the_verdict_on_the_engine_says_in_which_one_all_was_measured() -> None:
    figures = good_figures(engine=MeasuredEngine("bfloat16", 4096, 1, on_gpu=True))
    assert by_gate(judge(gates(), figures))["engine"].measured == "ready after 3.2 s; bfloat16, 4,096 tokens, 1 GPU"


@pytest.mark.parametrize(
    ("changes", "gate"),
    [
        ({"files": FileFigures(5, 999, "model.safetensors is truncated")}, "files"),
        ({"contract": ContractFigures("chat_template_sha256 differs")}, "template"),
        ({"contract": Unmeasured("no tokenizer")}, "template"),
        ({"lineage": lineage(data_hash="")}, "lineage"),
        ({"lineage": Unmeasured("manifest.json is missing")}, "lineage"),
        ({"loads_s": Unmeasured("the engine died")}, "engine"),
        ({"loads_s": None}, "engine"),
        ({"parity": GapFigures(2e-3, 1e-6, 500)}, "log-probabilities"),
        ({"parity": GapFigures(2e-4, 2e-4, 500)}, "log-probabilities"),
        ({"parity": GapFigures(math.nan, math.nan, 500)}, "log-probabilities"),
        ({"parity": GapFigures(0.0, 0.0, 0)}, "log-probabilities"),
        ({"parity": None}, "log-probabilities"),
        ({"load": LoadFigures((1.1,) * 20, 2000, 10.0, FAST)}, "load"),
        ({"load": LoadFigures((0.5,) * 18 + (2.5, 2.5), 2000, 10.0, FAST)}, "load"),
        ({"load": LoadFigures((0.5,) * 20, 999, 10.0, FAST)}, "load"),
        ({"load": LoadFigures((), 0, 0.0, FAST)}, "load"),
        ({"load": LoadFigures((0.5,) * 20, 2000, 10.0, (0.3,) * 100)}, "first token"),
        ({"load": LoadFigures((0.5,) * 20, 2000, 10.0, (0.1,) * 98 + (0.5, 0.5))}, "first token"),
        ({"load": LoadFigures((0.5,) * 20, 2000, 10.0, ())}, "first token"),
    ],
)
def test_one_bad_figure_fails_its_gate_and_no_other(changes: dict[str, Any], gate: str) -> None:
    verdicts = judge(gates(), good_figures(**changes))
    assert [verdict.gate for verdict in failed(verdicts)] == [gate]
    assert len(verdicts) == 11


def test_all_that_could_not_be_measured_fails_with_its_reason() -> None:
    lost = Unmeasured("the engine did not start")
    figures = good_figures(loads_s=lost, parity=lost, scores=lost, load=lost, current_scores=lost)
    verdicts = by_gate(judge(gates(), figures))
    missed = [gate for gate, verdict in verdicts.items() if verdict.status == "failed"]
    assert missed == [
        "engine",
        "log-probabilities",
        "sums, thinking",
        "against current",
        "ThinkFollow",
        "load",
        "first token",
    ]
    assert all(verdicts[gate].measured == "not measured: the engine did not start" for gate in missed)


def test_a_gate_that_is_turned_off_says_so() -> None:
    config = gates(parity=None, benchmarks=None, think_follow=None, load=None)
    verdicts = by_gate(judge(config, good_figures(loads_s=None, parity=None, scores=None, load=None)))
    off = {gate for gate, verdict in verdicts.items() if verdict.status == "off"}
    assert off == {"engine", "log-probabilities", "benchmarks", "against current", "ThinkFollow", "load", "first token"}
    assert not config.needs_engine


# ---------------------------------------------------------------------------------------------- thresholds


@pytest.mark.parametrize(("mean", "status"), [(0.5, "passed"), (0.49, "failed"), (1.0, "passed")])
def test_a_threshold_is_reached_or_not(mean: float, status: str) -> None:
    ours = {SUMS: scores([mean] * 100), FOLLOW: scores([1.0] * 100)}
    verdicts = by_gate(judge(gates(), good_figures(scores=ours, current=None, current_scores=None)))
    assert verdicts["sums, thinking"].status == status
    assert verdicts["against current"].status == "passed"


@pytest.mark.parametrize(("share", "status"), [(0.9, "passed"), (0.89, "failed")])
def test_think_follow_is_reached_or_not(share: float, status: str) -> None:
    ours = {SUMS: scores([0.9] * 100), FOLLOW: scores([1.0] * round(100 * share) + [0.0] * round(100 * (1 - share)))}
    verdicts = by_gate(judge(gates(), good_figures(scores=ours, current=None)))
    assert verdicts["ThinkFollow"].status == status


def test_a_threshold_on_what_the_suite_lacks_fails() -> None:
    config = gates(benchmarks=BenchmarkGate(at_least={"sums": {"non_thinking": 0.1}}, margin=0.1))
    verdict = by_gate(judge(config, good_figures()))["sums, non-thinking"]
    assert (verdict.status, verdict.measured) == (
        "failed", "not measured: the suite has no such benchmark and mode",
    )  # fmt: skip


def test_the_mean_is_that_of_prompts_and_leaves_out_those_without_a_score() -> None:
    nan = math.nan
    assert scores([[1.0, 0.0, nan], [nan, 1.0, nan]], seeds=(0, 1)).mean == pytest.approx(0.75)  # (1 + 0.5) / 2
    assert math.isnan(scores([nan, nan]).mean)
    ours = {SUMS: scores([nan] * 4), FOLLOW: scores([1.0] * 100)}
    verdicts = by_gate(judge(gates(), good_figures(scores=ours, current=None)))
    assert verdicts["sums, thinking"].status == "failed"  # nothing was scored, which is no threshold reached


# ---------------------------------------------------------------------------------------------- against what is served


def test_resolution_is_what_no_worse_prompt_of_so_many_can_show() -> None:
    assert resolution(1, 0.95) == pytest.approx(0.95)
    assert resolution(59, 0.95) == pytest.approx(0.0495, abs=1e-4)  # the rule of three: 3 / 59 = 0.0508
    assert resolution(300, 0.95) == pytest.approx(0.00994, abs=1e-5)


def test_equal_scores_show_no_more_than_their_number_does() -> None:
    same = scores([1.0, 0.0] * 50)
    found = paired_difference(same, same, confidence=0.95)
    assert (found.mean, found.num_prompts) == (0.0, 100)
    assert found.lower_bound == pytest.approx(-resolution(100, 0.95))


def test_the_bound_is_that_of_a_one_sided_normal_test_where_that_holds() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.random(400), rng.random(400)
    found = paired_difference(scores(ours), scores(theirs), confidence=0.95)
    difference = ours - theirs
    expected = difference.mean() - 1.6449 * difference.std() / math.sqrt(400)
    assert found.mean == pytest.approx(difference.mean())
    assert found.lower_bound == pytest.approx(expected, abs=0.003)


def test_a_candidate_that_is_worse_by_more_than_the_margin_fails_and_a_better_one_passes() -> None:
    rng = np.random.default_rng(1)
    theirs = (rng.random(400) < 0.8).astype(float)
    worse = np.where(rng.random(400) < 0.15, 0.0, theirs)  # about 0.12 below
    better = np.where(rng.random(400) < 0.3, 1.0, theirs)
    for ours, status in ((worse, "failed"), (better, "passed")):
        figures = good_figures(scores={SUMS: scores(ours)}, current_scores={SUMS: scores(theirs)})
        verdict = by_gate(judge(gates(think_follow=None), figures))["against current: sums, thinking"]
        assert verdict.status == status


def test_too_few_prompts_to_show_anything_fail_and_say_so() -> None:
    few = {SUMS: scores([1.0] * 10)}
    verdict = by_gate(judge(gates(think_follow=None), good_figures(scores=few, current_scores=few)))[
        "against current: sums, thinking"
    ]
    assert verdict.status == "failed"
    assert "too few prompts to show it for any model" in verdict.measured


def test_prompts_are_paired_by_name_whatever_their_order() -> None:
    ours = scores([1.0, 0.0, 1.0, 0.0])
    theirs = type(ours)((0,), tuple(reversed(ours.uids)), ours.values_SP[:, ::-1])
    assert paired_difference(ours, theirs, confidence=0.9).mean == 0.0


def test_a_prompt_that_one_side_has_no_score_for_is_left_out() -> None:
    found = paired_difference(scores([1.0, math.nan, 0.5]), scores([0.5, 0.0, 0.5]), confidence=0.9)
    assert (found.mean, found.num_prompts) == (0.25, 2)


def test_what_the_current_version_was_not_measured_on_cannot_be_passed() -> None:
    figures = good_figures(current_scores={SUMS: good_figures().scores[SUMS]})  # type: ignore[index]
    verdict = by_gate(judge(gates(), figures))["against current: think_follow, mixed"]
    assert (verdict.status, verdict.measured) == (
        "failed", "not measured: the current version was not measured on it",
    )  # fmt: skip
    other = {SUMS: scores([0.9] * 100, first=500), FOLLOW: scores([1.0] * 100)}
    verdict = by_gate(judge(gates(), good_figures(current_scores=other)))["against current: sums, thinking"]
    assert verdict.status == "failed"
    assert "share no prompt" in verdict.measured


def test_of_a_model_that_is_worse_by_the_margin_the_gate_passes_one_in_twenty() -> None:
    rng, num_passed, num_trials = np.random.default_rng(2), 0, 60
    for _ in range(num_trials):
        theirs = (rng.random(150) < 0.8).astype(float)
        ours = np.where(rng.random(150) < 0.125, 0.0, theirs)  # 0.8 * 0.125 = the margin of 0.1
        found = paired_difference(scores(ours), scores(theirs), confidence=0.95)
        num_passed += found.lower_bound > -0.1
    assert num_passed / num_trials <= 0.1


# ---------------------------------------------------------------------------------------------- lineage


@pytest.mark.parametrize(
    ("changes", "config", "fault"),
    [
        ({}, LicenceGate(), "no licence"),
        ({"licence": "mit"}, LicenceGate(allowed=("Apache-2.0",)), "licence mit is not among those allowed"),
        ({"licence": "MIT"}, LicenceGate(spdx="Apache-2.0"), "licence.spdx is Apache-2.0, the checkpoint's own card"),
        ({"config_hash": ""}, LicenceGate(spdx="MIT"), "no hash of its settings"),
        ({"has_parent": False}, LicenceGate(spdx="MIT"), "stage general_rl has no parent"),
        ({"code_commit": "unknown"}, LicenceGate(spdx="MIT"), "commit of the code is not known"),
        ({"code_commit": "0123-dirty"}, LicenceGate(spdx="MIT", require_clean_commit=True), "uncommitted code"),
        (
            {"data_hash": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
            LicenceGate(spdx="MIT"),
            "no data is on record",
        ),
    ],
)
def test_what_is_missing_of_an_origin_is_named(changes: dict[str, Any], config: LicenceGate, fault: str) -> None:
    (found,) = lineage_faults(config, lineage(**changes))
    assert fault in found


def test_a_base_needs_neither_parent_nor_data_and_a_licence_may_be_the_checkpoints_own() -> None:
    base = lineage(stage="base", has_parent=False, data_hash="", licence="apache-2.0")
    assert list(lineage_faults(LicenceGate(allowed=("Apache-2.0",)), base)) == []
    assert list(lineage_faults(LicenceGate(spdx="Apache-2.0"), base)) == []


# ---------------------------------------------------------------------------------------------- figures


def test_gaps_leave_out_the_first_token_which_nothing_predicts() -> None:
    found = logprob_gaps([[9.0, -1.0, -2.0], [9.0, -3.0]], [[0.0, -1.5, -2.0], [0.0, -3.25]])
    assert (found.max_gap, found.mean_gap, found.num_tokens) == (0.5, 0.25, 3)
    assert math.isnan(logprob_gaps([[0.0, math.nan, -1.0]], [[0.0, -1.0, -1.0]]).max_gap)
    with pytest.raises(ValueError, match="zip"):
        logprob_gaps([[0.0, -1.0]], [[0.0]])


def test_scores_are_means_over_the_scored_samples_of_a_prompt_by_seed() -> None:
    def measurement(seed: int, *rewards: tuple[str, float | None]) -> Measurement:
        samples = tuple(Sample(uid, reward, 3, False) for uid, reward in rewards)
        return Measurement("sums", "thinking", seed, None, samples, {}, (), ())

    first = measurement(0, ("a", 1.0), ("a", 0.0), ("b", None), ("b", 1.0))
    second = measurement(1, ("a", 1.0), ("a", 1.0), ("b", None), ("b", None))
    found = scores_of([first, second])[SUMS]
    assert (found.seeds, found.uids) == ((0, 1), ("a", "b"))
    np.testing.assert_array_equal(found.values_SP, [[0.5, 1.0], [1.0, math.nan]])
    with pytest.raises(ValueError, match="different prompts"):
        scores_of([first, measurement(1, ("c", 1.0))])


@given(st.lists(st.floats(0, 100), min_size=1, max_size=40), st.integers(1, 100))
def test_a_percentile_is_a_value_that_so_many_do_not_exceed(values: list[float], percent: int) -> None:
    found = percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) >= percent * len(values) / 100
    assert sum(value < found for value in values) < percent * len(values) / 100


def test_percentiles_by_hand() -> None:
    assert [percentile([4.0, 1.0, 3.0, 2.0], percent) for percent in (50, 75, 76, 95)] == [2.0, 3.0, 4.0, 4.0]


# ---------------------------------------------------------------------------------------------- configuration


@pytest.mark.parametrize("name", list_recipes(folder=GATES))
def test_every_shipped_file_of_gates_asks_only_what_its_suite_measures(name: str) -> None:
    config = load_gates(name)
    assert config.name == name
    require_measured(config, load_suite(config.suite, config.suite_settings))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("benchmarks.at_least.sums.thinking=0.5", "benchmarks.at_least.sums.thinking: is not measured by suite"),
        ("benchmarks.at_least.math.mixed=0.5", "benchmarks.at_least.math.mixed: is not measured"),
        ("benchmarks.margins.sums=0.5", "benchmarks.margins.sums: is no benchmark of suite 'embedded'"),
        ("think_follow.benchmark=math", "has no 'math' in mode mixed"),
        ("suite_settings=[rollout.num_workers=2]", "rollout.num_workers=2 engines would share the load of the gate"),
    ],
)
def test_a_gate_on_what_the_suite_does_not_measure_is_refused_before_anything_runs(override: str, message: str) -> None:
    config = load_gates("embedded", [override])
    with pytest.raises(UserError, match=message):
        require_measured(config, load_suite(config.suite, config.suite_settings))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("benchmarks.margin=0", "margin: 0.0 must lie in"),
        ("benchmarks.margins.math=2", "margins.math: 2.0 must lie in"),
        ("benchmarks.confidence=1", "confidence: 1.0 must lie between"),
        ("benchmarks.at_least.math.thinkin=0.5", "'thinkin' is no mode"),
        ("benchmarks.at_least.math.thinking=5", "must lie in"),
        ("parity.max_gap=0", "must be above 0 nats"),
        ("load.num_requests=2", "never reach a concurrency of 8"),
        ("think_follow.at_least=2", "must lie in"),
        ("swap_timeout_s=0", "must be above 0"),
        ("swap_timeout=3", "swap_timeout"),
    ],
)
def test_settings_that_mean_nothing_are_refused_by_name(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_gates("embedded", [override])


def test_the_engine_that_gates_measure_in_is_set_in_one_place() -> None:
    config = load_gates("embedded", ["suite_settings=[rollout.engine.dtype=bfloat16]"])
    for found, dtype in ((config, "bfloat16"), (load_gates("embedded"), "float32")):
        assert measured_engine(load_suite(found.suite, found.suite_settings).rollout).dtype == dtype


def test_servers_have_longer_to_follow_than_they_wait_for_their_requests() -> None:
    assert load_gates("embedded").swap_timeout_s > ServeConfig().drain_timeout_s


def test_the_end_of_a_run_needs_an_alias() -> None:
    with pytest.raises(UserError, match="both are null"):
        PromotionConfig(gates="embedded", staging=None, production=None).validate()
    with pytest.raises(UserError, match="name two aliases"):
        PromotionConfig(gates="embedded", staging="x", production="x").validate()


def test_margins_of_single_benchmarks_take_the_place_of_the_common_one() -> None:
    gate = BenchmarkGate(margin=0.1, margins={"sums": 0.3})
    assert (gate.margin_of("sums"), gate.margin_of("other")) == (0.3, 0.1)
    assert GatesConfig(name="x").needs_engine
