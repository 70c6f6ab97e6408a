"""`fourstage eval` with a policy that is a function: what is sampled once, what a killed evaluation goes on with, and
what its results say."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from data.records import Completion, Prompt, UserError, VersionSpan
from evals.evaluate import BenchmarkConfig, evaluate
from evals.measurement import ROLLOUTS_KEPT
from evals.results_table import markdown_document
from rollout.policy import GenerationRequest
from stages.eval_suite import SuiteConfig, load_suite
from stages.evaluate_checkpoint import Subject, measure_suite, roll_out_of, show, subject_of, thinking_budgets
from tests.data.byte_tokenizer import byte_tokenizer
from tests.rewards.leaky_task import registry_as_it_was
from tests.stages.cli_calls import Call
from tests.stages.stage_fakes import FakePolicy, FakeServices, quiet_progress

TOKENIZER = byte_tokenizer()
SUITE = """
name: tiny
seeds: [0, 1]
pass_at: [1, 2]
evaluation:
  thinking: {temperature: 0.6, top_p: 0.95, top_k: 20, max_tokens: 100}
  benchmarks:
    sums: {task: arithmetic, num_prompts: 5, num_samples: 2}
    flags: {task: mode_flags, modes: [mixed], num_prompts: 3}
"""


def right(request: GenerationRequest) -> str:
    """Thinks where it may, and gives the right sum."""
    prompt = TOKENIZER.decode(request.prompt_token_ids)
    total = sum(map(int, re.findall(r"Compute ([\d +]+)\.", prompt)[-1].split(" + ")))
    return f"{total}" if prompt.endswith("</think>\n\n") else f"<think>\na b c\n</think>\n\n{total}"


def sometimes(request: GenerationRequest) -> str:
    """Right in the first sample of each prompt of seed 0 alone."""
    return right(request) if request.sample_index == 0 else "-1"


@pytest.fixture(autouse=True)
def _registry_as_it_was() -> Iterator[None]:
    with registry_as_it_was():
        yield


class Policy(FakePolicy):
    """Its tokens are those of the tokenizer, so that think tags are tokens and can be counted between."""

    def _completion(self, request: GenerationRequest) -> Completion:
        made = super()._completion(request)
        ids = tuple(TOKENIZER.encode(made.text, add_special_tokens=False))
        span = (VersionSpan(0, 0, len(ids)),)
        zeros, unforced = (0.0,) * len(ids), (False,) * len(ids)
        return dataclasses.replace(made, token_ids=ids, logprobs=zeros, forced=unforced, weight_versions=span)


class Bench:
    """A suite, a checkpoint that is only a name, and the folder of its measurements."""

    def __init__(self, folder: Path, answer: Any = right, text: str = SUITE) -> None:
        self.folder, self.answer = folder, answer
        self.suite_file = folder / "suite.yaml"
        self.suite_file.write_text(text)
        self.said = ""

    def suite(self, *overrides: str, **options: Any) -> SuiteConfig:
        return load_suite(str(self.suite_file), overrides, **options)

    def measure(self, *overrides: str, key: str = "abc", answer: Any = None) -> tuple[dict[str, Any], FakeServices]:
        services = FakeServices()
        services.pool = Policy(answer or self.answer)
        progress, stream = quiet_progress()
        subject = Subject(self.folder / "model", "tiny-model", key)
        try:
            with progress:
                document = measure_suite(self.suite(*overrides), subject, self.folder / "out", services, progress)
        finally:
            self.said = stream.getvalue()
        return document, services

    @property
    def measurements(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.folder / "out" / "measurements").iterdir()}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def row(document: dict[str, Any], benchmark: str, mode: str, budget: int | None = None) -> dict[str, Any]:
    (found,) = (
        row
        for row in document["results"]
        if (row["benchmark"], row["mode"], row["budget_tokens"]) == (benchmark, mode, budget)
    )
    return found


# ---------------------------------------------------------------------------------------------- what is measured


def test_every_benchmark_mode_and_seed_is_measured_and_pooled_over_seeds(bench: Bench) -> None:
    document, services = bench.measure(answer=sometimes)
    assert [(r["benchmark"], r["mode"]) for r in document["results"]] == [
        ("sums", "thinking"), ("sums", "non_thinking"), ("flags", "mixed"),
    ]  # fmt: skip
    assert len(services.pool.calls) == 6  # one call for each, so that each is kept when it is done
    thinking = row(document, "sums", "thinking")
    assert (thinking["mean"], thinking["samples_per_prompt"], thinking["n"], thinking["samples"]) == (0.5, 4, 5, 20)
    assert thinking["pass_at"]["1"]["mean"] == 0.5
    assert thinking["pass_at"]["2"]["mean"] == pytest.approx(1 - 1 / 6)  # two of four: 1 - C(2,2)/C(4,2)
    assert thinking["seed_means"] == {"0": 0.5, "1": 0.5}
    assert thinking["interval"] == [0.5, 0.5]
    assert set(row(document, "flags", "mixed")["pass_at"]) == {"1", "2"}  # a sample of each seed
    requests = services.pool.calls[0]
    assert {request.sampling.temperature for request in requests} == {0.6}
    assert {request.sampling.temperature for request in services.pool.calls[1]} == {0.7}
    assert not {r.seed for r in services.pool.calls[0]} & {r.seed for r in services.pool.calls[3]}


def test_the_document_says_what_was_measured_and_is_written_beside_the_measurements(bench: Bench) -> None:
    document, services = bench.measure()
    assert (document["checkpoint"], document["suite"], document["seeds"]) == ("tiny-model", "tiny", [0, 1])
    num_requests = sum(map(len, services.pool.calls))
    assert num_requests == sum(r["samples"] for r in document["results"]) == 2 * (2 * 5 * 2 + 3)
    assert document["tokens"] == sum(round(r["mean_tokens"] * r["samples"]) for r in document["results"])
    (written,) = (bench.folder / "out").glob("tiny-*.json")
    assert json.loads(written.read_text(encoding="utf-8")) == document
    assert written.with_suffix(".md").read_text(encoding="utf-8") == markdown_document(document)
    assert "name: tiny" in written.with_suffix(".yaml").read_text(encoding="utf-8")
    (summary,) = document["summary"].values()
    assert summary["thinking"]["sums"]["mean"] == 1.0
    assert {(c["category"], c["mode"]) for c in document["categories"]} == {
        ("reasoning", "thinking"), ("reasoning", "non_thinking"), ("format_following", "mixed"),
    }  # fmt: skip
    assert document["rollouts"][0]["completion"].startswith("<think>")


def test_a_category_of_ones_own_takes_the_place_of_the_area(bench: Bench) -> None:
    document, _ = bench.measure("evaluation.benchmarks.sums.category=numbers")
    assert {c["category"] for c in document["categories"]} == {"numbers", "format_following"}


def test_the_numbers_are_those_of_a_pipelines_evaluation(bench: Bench) -> None:
    """One job at a time or all at once: a request is seeded by its prompt and sample."""

    def by_seed(request: GenerationRequest) -> str:
        return right(request) if request.seed % 3 else "-1"

    document, _ = bench.measure("seeds=[5]", "pass_at=[1]", answer=by_seed)
    services = FakeServices(by_seed)
    found = evaluate(
        "general_rl",
        bench.suite("seeds=[5]", "pass_at=[1]").evaluation,
        roll_out=roll_out_of(services, bench.folder),
        tokenizer=TOKENIZER,
        seed=5,
    )
    assert len(services.pool.calls) == 1
    for result in found.results:
        mine = row(document, result.benchmark, result.mode)
        assert (mine["mean"], mine["interval"]) == (result.mean, [result.low, result.high])
    assert 0 < found.results[0].mean < 1


def test_a_thinking_budget_of_a_benchmark_holds_in_thinking_mode_alone(bench: Bench) -> None:
    document, services = bench.measure("evaluation.benchmarks.sums.thinking_budget=7")
    budgets = [{request.sampling.thinking_budget for request in call} for call in services.pool.calls]
    assert budgets == [{7}, {None}, {None}] * 2
    assert row(document, "sums", "thinking", 7)["mean"] == 1.0


# ---------------------------------------------------------------------------------------------- budgets


def test_budgets_in_tokens_and_in_shares_of_the_median_are_measured_once_each(bench: Bench) -> None:
    def needs_three(request: GenerationRequest) -> str:
        budget = request.sampling.thinking_budget
        return right(request) if budget is None or budget >= 3 else "-1"

    overrides = ("evaluation.budget_benchmarks=[sums]", "budgets=[2,3]", "evaluation.budget_shares=[0.0,0.5,1.0]")
    document, services = bench.measure(*overrides, answer=needs_three)
    assert document["median_thinking_tokens"] == 7  # "\na b c\n" in bytes
    assert [r["budget_tokens"] for r in document["results"][3:]] == [0, 2, 3, 4, 7]
    assert [r["mean"] for r in document["results"][3:]] == [0.0, 0.0, 1.0, 1.0, 1.0]
    assert len(services.pool.calls) == 6 + 2 * 5
    seeds = {tuple(request.seed for request in call) for call in services.pool.calls[6:11]}
    assert seeds == {tuple(request.seed for request in services.pool.calls[0])}  # points differ by the budget alone
    assert all(row["mode"] != "thinking" or row["mean"] == 1.0 for row in document["categories"])
    again, idle = bench.measure(*overrides)
    assert again == document
    assert idle.pool.calls == []


def test_shares_of_the_median_become_tokens_beside_those_that_are_given(bench: Bench) -> None:
    suite = bench.suite("evaluation.budget_benchmarks=[sums]", "budgets=[16]", "evaluation.budget_shares=[0.25,1.0]")
    assert thinking_budgets(suite, 16) == [4, 16]
    assert thinking_budgets(suite, 0) == [0, 16]


# ---------------------------------------------------------------------------------------------- cache and resumption


def test_a_second_call_samples_nothing_and_says_the_same(bench: Bench) -> None:
    document, _ = bench.measure()
    before = bench.measurements
    again, services = bench.measure()
    assert again == document
    assert services.pool.calls == []
    assert bench.measurements == before
    assert "6 measurements, made before, reused" in bench.said


def test_a_new_seed_or_benchmark_samples_only_what_is_new(bench: Bench) -> None:
    bench.measure()
    _, services = bench.measure("seeds=[0,1,2]")
    assert len(services.pool.calls) == 3
    other = "evaluation.benchmarks.other={task: json_answer, num_prompts: 2}"
    _, services = bench.measure(other, answer=lambda request: "no")
    assert len(services.pool.calls) == 4
    _, services = bench.measure("pass_at=[4]")
    assert services.pool.calls == []


@pytest.mark.parametrize(
    "overrides",
    [
        ("rollout.engine.max_model_len=4096",),
        ("rollout.engine.dtype=bfloat16",),
        ("evaluation.thinking.max_tokens=99", "evaluation.non_thinking.max_tokens=99"),
        ("evaluation.seed=3",),
    ],
)
def test_what_decides_the_numbers_is_measured_again(bench: Bench, overrides: tuple[str, ...]) -> None:
    bench.measure()
    _, services = bench.measure(*overrides)
    assert len(services.pool.calls) == 6


def test_another_checkpoint_is_measured_again(bench: Bench) -> None:
    bench.measure()
    _, services = bench.measure(key="abd")
    assert len(services.pool.calls) == 6


@pytest.mark.parametrize("survived", [0, 1, 4])
def test_an_evaluation_that_was_killed_goes_on_and_ends_with_the_same_bytes(tmp_path: Path, survived: int) -> None:
    class Killed(BaseException):
        """Stands for kill -9: nothing catches it."""

    def dies(limit: int) -> Any:
        def answer(request: GenerationRequest) -> str:
            calls.append(request)
            if len(calls) > limit:
                raise Killed
            return right(request)

        calls: list[GenerationRequest] = []
        return answer

    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole, killed = Bench(tmp_path / "whole"), Bench(tmp_path / "killed")
    expected, _ = whole.measure()
    sizes = [10, 10, 3, 10, 10, 3]  # completions of each measurement
    with pytest.raises(Killed):
        killed.measure(answer=dies(sum(sizes[:survived]) + 2))
    done = killed.measurements if survived else {}
    assert len(done) == survived
    document, services = killed.measure()
    assert [len(call) for call in services.pool.calls] == sizes[survived:]
    assert document == expected
    assert killed.measurements == whole.measurements
    assert all(killed.measurements[name] == content for name, content in done.items())
    total = sum(sizes)
    resumed = f"{total} steps" + (f", going on after step {sum(sizes[:survived])}" if survived else "")
    assert f"evaluate tiny-model: {resumed}" in killed.said


def test_the_progress_counts_completions_and_names_the_benchmark(bench: Bench) -> None:
    bench.measure()
    lines = [line for line in bench.said.splitlines() if "step " in line]
    assert "step 46/46" in lines[-1]
    assert "benchmark flags, mixed, seed 1" in lines[-1]


# ---------------------------------------------------------------------------------------------- what is refused


def test_prompts_that_leave_no_room_are_refused_before_anything_is_sampled(bench: Bench) -> None:
    services = FakeServices(right)
    progress, _ = quiet_progress()
    subject = Subject(bench.folder, "m", "k")
    with pytest.raises(
        UserError, match=r"evaluation\.benchmarks\.flags: its longest prompt has \d+ tokens.*--skip flags"
    ):
        measure_suite(
            bench.suite("rollout.engine.max_model_len=150"), subject, bench.folder / "out", services, progress
        )
    assert services.pool.calls == []


def test_a_folder_that_is_no_model_is_refused_by_name(call: Call, tmp_path: Path) -> None:
    assert call("eval", tmp_path / "none").error.startswith(f"CHECKPOINT: {tmp_path / 'none'} is no folder")
    (tmp_path / "empty").mkdir()
    assert "holds no config.json" in call("eval", tmp_path / "empty").error
    assert "no suite and no YAML file 'x'" in call("eval", tmp_path, "--suite", "x").error
    assert "--only: 'x' is no benchmark" in call("eval", tmp_path, "--only", "x").error


def test_the_key_of_a_checkpoint_is_that_of_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    header = b"{}"
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    subject = subject_of(folder)
    assert subject.name == "mine"
    moved = folder.rename(tmp_path / "yours")
    assert subject_of(moved).key == subject.key
    (moved / "config.json").write_text("{ }")
    assert subject_of(moved).key != subject.key


# ---------------------------------------------------------------------------------------------- files and output


def test_a_file_of_a_standard_benchmark_takes_the_place_of_a_task(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def load_benchmark(name: str, path: Path, *, limit: int | None = None, mode: str = "thinking") -> list[Prompt]:
        asked.append((name, path, limit, mode))
        return [
            Prompt(f"{name}/{i}", "arithmetic", ({"role": "user", "content": f"Compute {i} + 1."},), {"answer": i + 1})
            for i in range(10)
        ][:limit]

    fake: Any = types.ModuleType("evals.benchmarks.registry")
    fake.load_benchmark = load_benchmark
    monkeypatch.setitem(sys.modules, "evals.benchmarks.registry", fake)
    file = "{file: a.jsonl, standard: gsm8k, modes: [thinking], num_prompts: 4}"
    document, services = bench.measure(f"evaluation.benchmarks.gsm8k={file}", "evaluation.benchmarks.sums.category=x")
    assert asked == [("gsm8k", Path("a.jsonl"), 4, "thinking")]
    found = row(document, "gsm8k", "thinking")
    assert (found["mean"], found["n"]) == (1.0, 4)
    assert "gsm8k" not in {name for category in document["categories"] for name in category["benchmarks"]}
    assert services.pool.calls[3][0].prompt_uid == "eval/gsm8k/0@thinking"
    with pytest.raises(UserError, match=r"gsm8k\.num_prompts: 40 prompts were asked for, a\.jsonl has 10; lower it"):
        bench.measure(f"evaluation.benchmarks.gsm8k={file.replace('4}', '40}')}")


def test_results_are_shown_as_markdown_or_json(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    document, _ = bench.measure()
    show(document, as_json=False)
    assert capsys.readouterr().out == markdown_document(document)
    show(document, as_json=True)
    assert json.loads(capsys.readouterr().out) == document


def test_some_rollouts_of_each_measurement_are_kept_to_read(bench: Bench) -> None:
    bench.measure()
    kept: Sequence[Any] = [len(json.loads(content)["rollouts"]) for content in bench.measurements.values()]
    assert sorted(kept) == [3, 3, *[ROLLOUTS_KEPT] * 4]
    assert BenchmarkConfig(task="arithmetic").num_samples == 1
