"""Measuring for the gates with engines that are functions: what is asked of them, and what their failures leave."""

from __future__ import annotations

import dataclasses
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from data.records import Completion, UserError
from rollout.policy import GenerationRequest
from serving.figures import ContractFigures, Figures, FileFigures, GapFigures, LoadFigures, Unmeasured
from serving.gates import failed, judge
from serving.gates_config import GatesConfig, load_gates
from serving.parity import transformers_logprobs
from stages import gate_measuring
from stages.eval_suite import SuiteConfig, load_suite
from stages.evaluate_checkpoint import Subject
from stages.gate_measuring import attempt, load_figures, parity_figures, probe_requests, require_measured
from tests.serving.served_models import save_checkpoint, serving_tokenizer
from tests.stages.stage_fakes import FakePolicy, FakeServices, quiet_progress

SUITE = """
name: tiny
evaluation:
  benchmarks:
    sums: {task: arithmetic, levels: [0], modes: [non_thinking], num_prompts: 6, num_samples: 2}
    follow: {task: mode_flags, levels: [0], modes: [mixed], num_prompts: 4}
"""
GATES = """
name: tiny
suite: SUITE
licence: {spdx: Apache-2.0}
benchmarks: {at_least: {sums: {non_thinking: 0.0}}, margin: 0.9}
think_follow: {benchmark: follow, at_least: 0.0}
load:
  concurrency: 2
  num_requests: 5
  num_tokens: 3
  max_median_s: 9
  max_p95_s: 9
  max_first_token_median_s: 9
  max_first_token_p99_s: 9
  min_tokens_per_s: 0.001
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("model") / "checkpoint", stage="base")


@pytest.fixture
def config(tmp_path: Path) -> GatesConfig:
    (tmp_path / "suite.yaml").write_text(SUITE)
    (tmp_path / "gates.yaml").write_text(GATES.replace("SUITE", str(tmp_path / "suite.yaml")))
    return load_gates(str(tmp_path / "gates.yaml"))


@pytest.fixture
def suite(config: GatesConfig) -> SuiteConfig:
    return load_suite(config.suite, ())


class Pool(FakePolicy):
    """Answers "7", and computes what transformers computes, off by `gap` nats on every token."""

    capacity = 100

    def __init__(self, folder: Path, *, gap: float = 0.0) -> None:
        super().__init__(lambda request: "7")
        self.folder, self.gap = folder, gap
        self.waiting: list[GenerationRequest] = []
        self.asked: list[GenerationRequest] = []

    def score(self, rows: Sequence[Sequence[int]]) -> list[list[list[float]]]:
        exact = transformers_logprobs(self.folder, rows, dtype="float32")
        return [[[value + self.gap for value in row] for row in exact]] * 2  # two workers

    @property
    def num_in_flight(self) -> int:
        return len(self.waiting)

    def submit(self, requests: Any, *, episodes: Any = None) -> None:  # type: ignore[override]
        if isinstance(requests, GenerationRequest):
            super().submit(requests)
            return
        self.waiting += requests
        self.asked += requests

    def poll(self, timeout_s: float) -> list[Completion]:
        waiting, self.waiting = self.waiting, []
        return [self._completion(request) for request in waiting]


class Services(FakeServices):
    """Its engine is `engine`, or the error that it raises instead of starting."""

    def __init__(self, engine: Any) -> None:
        super().__init__()
        self.engine = engine
        self._tokenizer = serving_tokenizer()

    def policy(self, folder: str | Path) -> Any:
        if isinstance(self.engine, Exception):
            raise self.engine
        return self.engine


def measured(config: GatesConfig, suite: SuiteConfig, model: Path, engine: Any, folder: Path) -> tuple[Figures, str]:
    """The figures with an engine, and what was said on the way."""
    before = Figures(
        files=FileFigures(1, 1, None), contract=ContractFigures(None), lineage=Unmeasured("not of interest"),
        loads_s=None, parity=None, scores=None, current=None, current_scores=None, load=None,
    )  # fmt: skip
    progress, stream = quiet_progress()
    with progress:
        subject = Subject(model, "tiny-model", "abc")
        found = gate_measuring._with_engine(config, suite, subject, folder, Services(engine), progress, before)
    assert isinstance(stream, io.StringIO)
    return found, stream.getvalue()


def test_parity_load_and_scores_are_measured_on_one_engine(
    config: GatesConfig, suite: SuiteConfig, model: Path, tmp_path: Path
) -> None:
    pool = Pool(model)
    found, _ = measured(config, suite, model, pool, tmp_path / "out")
    assert found.parity == GapFigures(0.0, 0.0, found.parity.num_tokens)  # type: ignore[union-attr]
    assert isinstance(found.load, LoadFigures)
    assert (len(found.load.latencies_s), len(found.load.first_token_s)) == (5, 3)
    assert isinstance(found.loads_s, float)
    assert isinstance(found.scores, dict)
    assert {place: scores.values_SP.shape for place, scores in found.scores.items()} == {
        ("sums", "non_thinking"): (1, 6), ("follow", "mixed"): (1, 4),
    }  # fmt: skip
    missed = [verdict.gate for verdict in failed(judge(config, found))]
    assert missed == ["lineage"]
    assert list((tmp_path / "out" / "measurements").iterdir())


def test_an_engine_that_does_not_start_leaves_every_figure_with_a_reason(
    config: GatesConfig, suite: SuiteConfig, model: Path, tmp_path: Path
) -> None:
    found, said = measured(config, suite, model, UserError("rollout: engine 0 died at start"), tmp_path)
    assert found.loads_s == Unmeasured("UserError: rollout: engine 0 died at start")
    assert found.parity == found.scores == found.load == Unmeasured("the engine did not start")
    assert "the engine does not start" in said


def test_a_figure_that_cannot_be_had_does_not_keep_the_others_from_being_measured(
    config: GatesConfig, suite: SuiteConfig, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: Any, **__: Any) -> Any:
        raise RuntimeError("rollout: engine 0 died; its last lines")

    monkeypatch.setattr(gate_measuring, "suite_measurements", dies)
    found, _ = measured(config, suite, model, Pool(model), tmp_path)
    assert found.scores == Unmeasured("RuntimeError: rollout: engine 0 died; its last lines")
    assert isinstance(found.parity, GapFigures)
    assert isinstance(found.load, LoadFigures)


def test_a_gap_on_every_worker_is_seen(suite: SuiteConfig, config: GatesConfig, model: Path) -> None:
    assert config.parity is not None
    gate = dataclasses.replace(config.parity, num_rows=3)
    probes = probe_requests(suite, serving_tokenizer())
    found = parity_figures(gate, model, suite, Pool(model, gap=0.25), probes)
    assert found.max_gap == pytest.approx(0.25)
    assert found.mean_gap == pytest.approx(0.25)
    rows = [len(probe.prompt_token_ids) + 1 for probe in probes[:3]]  # the answer is one byte, one token
    assert found.num_tokens == 2 * sum(length - 1 for length in rows)


def test_probes_are_the_held_out_prompts_of_the_first_benchmark_each_once(suite: SuiteConfig) -> None:
    probes = probe_requests(suite, serving_tokenizer())
    assert len(probes) == len({probe.prompt_uid for probe in probes}) == 6
    assert all(probe.sample_index == 0 for probe in probes)


def test_a_load_is_warmed_up_and_every_request_has_the_set_number_of_tokens_or_one(
    suite: SuiteConfig, config: GatesConfig, model: Path
) -> None:
    assert config.load is not None
    pool = Pool(model)
    load_figures(config.load, pool, probe_requests(suite, serving_tokenizer()))
    kinds = [(request.sampling.max_tokens, request.sampling.ignore_end) for request in pool.asked]
    assert Counter(kinds) == {(3, True): 5, (1, True): 5 - 2}
    (warm_up,) = pool.calls
    assert [(request.prompt_uid, request.sampling.max_tokens) for request in warm_up] == [
        ("warm-up-0", 3), ("warm-up-1", 3),
    ]  # fmt: skip
    load = [request for request in pool.asked if request.sampling.max_tokens == 3]
    prompts = [request.prompt_token_ids for request in (*warm_up, *load)]
    assert len(set(prompts[:6])) == 6  # none is asked again before all were


def test_an_attempt_gives_the_value_or_the_reason_in_one_line() -> None:
    assert attempt(lambda: 3) == 3

    def fails() -> int:
        raise ValueError("two\nlines")

    assert attempt(fails) == Unmeasured("ValueError: two lines")


def test_the_suite_of_these_gates_measures_what_they_ask(config: GatesConfig, suite: SuiteConfig) -> None:
    require_measured(config, suite)
