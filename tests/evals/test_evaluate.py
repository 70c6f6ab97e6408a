"""Evaluation of one checkpoint with a policy that is a function: what is asked, what is averaged, what errors do."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from data.chat import STOP_THINKING
from data.records import Completion, Prompt, Score, UserError, VersionSpan
from evals.evaluate import (
    BenchmarkConfig,
    Evaluation,
    EvaluationConfig,
    budget_curve,
    category_of,
    evaluate,
    held_out_prompts,
)
from rewards.registry import get_task
from rewards.task import ScoreRequest
from rollout.policy import GenerationRequest, SamplingConfig, require_distinct
from tests.data.byte_tokenizer import byte_tokenizer

TOKENIZER = byte_tokenizer()
SUMS = BenchmarkConfig(task="arithmetic", levels=(0,), num_prompts=6)


class Policy:
    """Answers the question that it can read in the request; remembers every request."""

    def __init__(self, answer: Callable[[str, GenerationRequest], str]) -> None:
        self.answer = answer
        self.requests: list[GenerationRequest] = []

    def generate(
        self, requests: Sequence[GenerationRequest], *, on_progress: Callable[[int, int], None] | None = None
    ) -> list[Completion]:
        require_distinct(requests)  # as the real pool does
        self.requests += requests
        completions = []
        for request in requests:
            text = self.answer(TOKENIZER.decode(request.prompt_token_ids), request)
            ids = tuple(TOKENIZER.encode(text, add_special_tokens=False))
            completions.append(
                Completion(
                    request.prompt_uid, request.sample_index, request.prompt_token_ids, ids, (0.0,) * len(ids),
                    (False,) * len(ids), "stop", (VersionSpan(0, 0, len(ids)),), text,
                )
            )  # fmt: skip
        if on_progress is not None:
            on_progress(len(completions), sum(len(c.token_ids) for c in completions))
        return completions


def right(prompt: str) -> int:
    """The sum that a rendered prompt asks for last."""
    return sum(map(int, re.findall(r"Compute ([\d +]+)\.", prompt)[-1].split(" + ")))


def thinks(prompt: str, request: GenerationRequest) -> str:
    """Right in both modes, with five bytes of thinking."""
    block = "" if prompt.endswith("</think>\n\n") else "<think>\nabc\n</think>\n\n"
    return f"{block}{right(prompt)}"


def score(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[Score]:
    by_uid = {prompt.uid: prompt for prompt in prompts}
    owners = [by_uid[completion.prompt_uid] for completion in completions]
    return [
        get_task(p.task).score(ScoreRequest(p.task, p.messages, p.reference, c.text, p.enable_thinking))
        for p, c in zip(owners, completions, strict=True)
    ]


def config(benchmarks: dict[str, BenchmarkConfig] | None = None, **changes: Any) -> EvaluationConfig:
    return EvaluationConfig(benchmarks=benchmarks or {"sums": SUMS}, **changes)


def measured(policy: Policy, settings: EvaluationConfig, scorer: Any = score, **options: Any) -> Evaluation:
    return evaluate("cold_start", settings, roll_out=roll_out(policy, scorer), tokenizer=TOKENIZER, seed=0, **options)


def roll_out(policy: Policy, scorer: Any) -> Any:
    """Sample with the policy, then score."""

    def rolled_out(prompts: Any, requests: Any, on_progress: Any) -> Any:
        completions = policy.generate(requests, on_progress=on_progress)
        return completions, scorer(prompts, completions)

    return rolled_out


# ---------------------------------------------------------------------------------------------- held-out prompts


def test_held_out_prompts_are_distinct_and_the_same_for_every_run() -> None:
    settings = config({"a": BenchmarkConfig(task="arithmetic", levels=(1, 2), num_prompts=40), "sums": SUMS})
    found = held_out_prompts(settings)
    assert [len(found[name]) for name in ("a", "sums")] == [40, 6]
    assert len({prompt.messages[-1]["content"] for prompt in found["a"]}) == 40
    assert all(prompt.uid.startswith("eval/") for prompt in found["a"])
    assert {prompt.difficulty for prompt in found["a"]} == {1, 2}
    assert held_out_prompts(settings) == found
    assert held_out_prompts(config({"sums": SUMS}, seed=1)) != held_out_prompts(config())


def test_more_prompts_than_a_task_has_are_refused_with_their_number() -> None:
    settings = config({"flags": BenchmarkConfig(task="length", num_prompts=5000)})
    with pytest.raises(UserError, match=r"^evaluation\.benchmarks\.flags\.num_prompts: 5000 distinct prompts were"):
        held_out_prompts(settings)


def test_a_category_is_ones_own_or_the_area_of_the_task_and_a_file_has_none_by_itself() -> None:
    assert category_of(SUMS) == "reasoning"
    assert category_of(BenchmarkConfig(task="arithmetic", category="numbers")) == "numbers"
    assert category_of(BenchmarkConfig(file="a.jsonl", standard="gsm8k")) is None
    assert category_of(BenchmarkConfig(file="a.jsonl", standard="gsm8k", category="math")) == "math"


# ---------------------------------------------------------------------------------------------- what is asked


def test_each_mode_asks_in_its_own_way_with_the_sampling_of_the_report() -> None:
    policy = Policy(thinks)
    benchmark = BenchmarkConfig(task="arithmetic", modes=("thinking", "non_thinking", "mixed"), num_prompts=3)
    measured(policy, config({"sums": benchmark}))
    by_mode = {mode: policy.requests[3 * i : 3 * i + 3] for i, mode in enumerate(benchmark.modes)}
    for mode, requests in by_mode.items():
        for request in requests:
            assert request.prompt_uid.endswith(f"@{mode}")
            prefilled = TOKENIZER.decode(request.prompt_token_ids).endswith("<think>\n\n</think>\n\n")
            assert prefilled == (mode == "non_thinking")
            expected = (0.7, 0.8, 20) if mode == "non_thinking" else (0.6, 0.95, 20)
            assert (request.sampling.temperature, request.sampling.top_p, request.sampling.top_k) == expected
    assert len({request.seed for request in policy.requests}) == 9


def test_one_call_to_the_policy_serves_all_benchmarks_and_reports_progress() -> None:
    heard: list[tuple[int, int]] = []
    policy = Policy(thinks)
    settings = config({"sums": SUMS, "flags": BenchmarkConfig(task="mode_flags", modes=("mixed",), num_prompts=4)})
    found = measured(policy, settings, on_progress=lambda done, tokens: heard.append((done, tokens)))
    assert len(policy.requests) == 6 + 6 + 4
    assert heard == [(16, found.num_tokens)]


# ---------------------------------------------------------------------------------------------- what comes out


def test_the_mean_is_over_prompts_of_the_means_over_their_samples() -> None:
    def sometimes(prompt: str, request: GenerationRequest) -> str:
        """Right for every sample of even sums, for one sample in four of odd ones."""
        total = right(prompt)
        return str(total if total % 2 == 0 or request.sample_index == 3 else total + 1)

    benchmark = BenchmarkConfig(task="arithmetic", modes=("thinking",), num_prompts=20, num_samples=4)
    settings = config({"sums": benchmark})
    (result,) = measured(Policy(sometimes), settings).results
    prompts = held_out_prompts(settings)["sums"]
    expected = [1.0 if prompt.reference["answer"] % 2 == 0 else 0.25 for prompt in prompts]
    assert list(result.per_prompt) == expected
    assert result.mean == pytest.approx(sum(expected) / 20)
    assert (result.n, result.num_samples, result.error_count) == (20, 80, 0)
    assert result.low <= result.mean <= result.high
    assert [uid.removesuffix("@thinking") for uid in result.prompt_uids] == [prompt.uid for prompt in prompts]


def test_separate_scores_are_averaged_over_the_completions_that_have_them() -> None:
    """Every other sum is stopped in its second step; of those half are finished in the head, half read off."""
    asked: list[str] = []

    def answer(prompt: str, request: GenerationRequest) -> str:
        asked.append(prompt)
        terms = [int(term) for term in re.findall(r"Compute ([\d +]+)\.", prompt)[-1].split(" + ")]
        if len(asked) % 2:
            return f"<think>\nabc\n</think>\n\n{sum(terms)}"
        partial = terms[0] + terms[1]
        given = sum(terms) if len(asked) % 4 else partial
        return f"<think>\n{terms[0]}+{terms[1]}={partial}\n{partial}{STOP_THINKING}{given}"

    sums = BenchmarkConfig(task="arithmetic", levels=(0,), num_prompts=8, modes=("thinking",))
    found = measured(Policy(answer), config({"sums": sums}))
    assert [(part, r.benchmark, r.mode, r.mean, r.n, r.error_count) for part, r in found.parts] == [
        ("coherent", "sums", "thinking", 0.5, 4, 0), ("read_off", "sums", "thinking", 0.5, 4, 0),
    ]  # fmt: skip
    assert all(set(result.prompt_uids) < set(found.results[0].prompt_uids) for _, result in found.parts)


def test_a_failed_verifier_is_counted_and_leaves_the_mean() -> None:
    def fails_twice(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[Score]:
        scores = score(prompts, completions)
        return [Score.error("timed out") if index < 2 else one for index, one in enumerate(scores)]

    benchmark = BenchmarkConfig(task="arithmetic", modes=("thinking",), num_prompts=5)
    (result,) = measured(Policy(thinks), config({"sums": benchmark}), fails_twice).results
    assert (result.mean, result.n, result.num_samples, result.error_count) == (1.0, 3, 5, 2)


def test_each_benchmark_and_mode_gets_its_own_completions_even_of_the_same_prompts() -> None:
    def only_thinking(prompt: str, request: GenerationRequest) -> str:
        return thinks(prompt, request) if request.prompt_uid.endswith("/thinking") else "no"

    settings = config({"b": SUMS, "a": SUMS})
    results = measured(Policy(only_thinking), settings).results
    assert [(r.benchmark, r.mode, r.mean) for r in results] == [
        ("b", "thinking", 1.0), ("b", "non_thinking", 0.0), ("a", "thinking", 1.0), ("a", "non_thinking", 0.0),
    ]  # fmt: skip
    assert all(r.stage == "cold_start" for r in results)


def test_rollouts_are_kept_to_read() -> None:
    found = measured(Policy(thinks), config({"sums": BenchmarkConfig(task="arithmetic", num_prompts=12)}))
    assert len(found.rollouts) == 2 * 8
    row = found.rollouts[0]
    assert row["stage"] == "evaluation of cold_start"
    assert (row["reward"], row["outcome"], row["mode"], row["benchmark"]) == (1.0, "correct", "thinking", "sums")
    assert row["completion"].startswith("<think>\nabc")


# ---------------------------------------------------------------------------------------------- thinking length


def test_the_median_counts_tokens_between_the_tags_of_reasoning_tasks() -> None:
    def longer(prompt: str, request: GenerationRequest) -> str:
        body = "a" * (3 if right(prompt) % 2 else 9)
        return f"<think>{body}</think>\n\n1" if not prompt.endswith("</think>\n\n") else "1"

    settings = config({"sums": BenchmarkConfig(task="arithmetic", num_prompts=25)})
    odd = sum(prompt.reference["answer"] % 2 for prompt in held_out_prompts(settings)["sums"])
    assert measured(Policy(longer), settings).median_thinking_tokens == (3 if odd > 12 else 9)
    other = config({"flags": BenchmarkConfig(task="mode_flags", modes=("thinking",), num_prompts=5)})
    assert measured(Policy(longer), other).median_thinking_tokens == 0  # not a reasoning task
    silent = measured(Policy(lambda prompt, request: "1"), settings)
    assert silent.median_thinking_tokens == 0


def test_the_budget_curve_asks_the_same_seeds_under_each_share_of_the_median() -> None:
    def stopped_early(prompt: str, request: GenerationRequest) -> str:
        """Right only when the budget lets it think for ten tokens."""
        budget = request.sampling.thinking_budget
        assert budget is not None
        return str(right(prompt) if budget >= 10 else -1)

    policy = Policy(stopped_early)
    settings = config(
        {"sums": SUMS, "more": SUMS, "other": SUMS},
        budget_benchmarks=("sums", "more"),
        budget_shares=(0.0, 0.25, 0.5, 1.0, 2.0),
    )
    points = budget_curve(
        "general_rl", settings, 15, roll_out=roll_out(policy, score), tokenizer=TOKENIZER, seed=0
    )  # fmt: skip
    assert [point["budget_tokens"] for point in points] == [0, 4, 8, 15, 30]
    assert [point["mean"] for point in points] == [0.0, 0.0, 0.0, 1.0, 1.0]
    assert [point["n"] for point in points] == [12] * 5
    calls = [policy.requests[12 * i : 12 * i + 12] for i in range(5)]
    assert len({tuple(request.seed for request in requests) for requests in calls}) == 1
    assert {request.sampling.temperature for request in policy.requests} == {0.6}


def test_a_benchmark_may_be_measured_on_some_stages_alone() -> None:
    late = BenchmarkConfig(task="arithmetic", levels=(1,), num_prompts=4, stages=("general_rl",))
    settings = config({"sums": SUMS, "late": late}, stages=("cold_start", "general_rl"))
    assert list(settings.benchmarks_at("cold_start")) == ["sums"]
    assert list(settings.benchmarks_at("general_rl")) == ["sums", "late"]
    assert settings.benchmarks_at("thinking_fusion") == {}
    policy = Policy(thinks)
    assert {result.benchmark for result in measured(policy, settings).results} == {"sums"}
    assert len(policy.requests) == 2 * 6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (BenchmarkConfig(task="arithmetic", num_samples=0), "num_samples: 0 must be 1 or more"),
        (BenchmarkConfig(task="arithmetic", modes=()), "levels, modes: give at least one of each"),
        (BenchmarkConfig(task="arithmetic", levels=(-1,)), "levels: -1 is no level of task 'arithmetic'; use 0 to"),
        (config(budget_benchmarks=("x",)), "budget_benchmarks: 'x' is none of the benchmarks (sums)"),
        (config(budget_shares=(-0.5,)), "budget_shares: (-0.5,) must be 0 or more"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(
    settings: BenchmarkConfig | EvaluationConfig, message: str
) -> None:
    with pytest.raises(UserError) as caught:
        settings.validate()
    assert str(caught.value).startswith(message)


def test_sampling_settings_are_the_reports_by_default() -> None:
    settings = EvaluationConfig()
    assert settings.thinking == SamplingConfig(temperature=0.6, top_p=0.95, top_k=20)
    assert settings.non_thinking == SamplingConfig(temperature=0.7, top_p=0.8, top_k=20)
