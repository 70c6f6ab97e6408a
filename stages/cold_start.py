"""Stage 1, long-CoT cold start (Qwen3 report, arXiv 2505.09388, section 4.1).

Queries are filtered (verifiable; not answered correctly without chain of thought; balanced by domain), a teacher writes
N candidates each, six filters judge the candidates, and the base model is trained on a small selection for few steps:
the stage is to plant the format and the habit of reasoning, and to leave room for reinforcement learning.

Departures. The report names the filters and gives no thresholds: every number here is a setting of ours. Its teacher is
QwQ-32B; ours is a setting (`teacher`). "Answered correctly without CoT" is asked of the base model itself, one greedy
answer a query in non-thinking form, where the report asks Qwen2.5-72B-Instruct. Verifiability is a rule on the query,
and the domain comes with the query, where the report has both annotated by that model. Queries on which the teacher
fails every time are dropped, where the report has people look at them.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.chat import training_row
from data.filters import (
    Candidate,
    ResponseFilterConfig,
    balance_by_domain,
    deduplicate,
    filter_responses,
    needs_reasoning,
    verifiable,
)
from data.records import Prompt, TrainingSample, UserError
from rewards.task import ScoreRequest
from rollout.policy import SamplingConfig
from stages.prompts import HeldOut, PromptMix, mixed_prompts, prompt_of_record, prompt_record, prompt_text
from stages.sampling import sample_and_score
from stages.services import Services
from stages.sft_loop import SFTConfig, run_sft
from stages.stage_context import StageContext
from stages.teacher import TeacherConfig, teacher_responses


@dataclass(frozen=True, kw_only=True, slots=True)
class ColdStartConfig:
    """Stage 1. `num_queries` are drawn, `num_examples` at the most are trained on."""

    queries: PromptMix
    num_queries: int = 1000
    max_domain_ratio: float = 2.0
    num_candidates: int = 2
    num_examples: int = 500
    answer_tokens: int = 32
    filters: ResponseFilterConfig = field(default_factory=ResponseFilterConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    train: SFTConfig = field(default_factory=SFTConfig)

    def validate(self) -> None:
        for name in ("num_queries", "num_candidates", "num_examples", "answer_tokens"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: {getattr(self, name)} must be 1 or more")
        if not self.max_domain_ratio >= 1:
            raise UserError(f"max_domain_ratio: {self.max_domain_ratio} must be 1 or more")


def run(
    config: ColdStartConfig, start: Path, services: Services, context: StageContext, held_out: HeldOut
) -> dict[str, float]:
    """Filter queries, collect and filter candidates, train; the learner then holds the cold-start model."""
    queries = select_queries(config, start, services, context, held_out)
    examples = context.cached_rows("examples", lambda: _examples(config, queries, services, context, held_out))
    samples = training_samples_of(examples, services.tokenizer(start))
    return run_sft(samples, config.train, start, services, context)


def select_queries(
    config: ColdStartConfig, start: Path, services: Services, context: StageContext, held_out: HeldOut
) -> list[Prompt]:
    """The stage's queries after the query filters; cached, since later stages take the same ones or avoid them."""
    rows = context.cached_rows("queries", lambda: _filtered_queries(config, start, services, context, held_out))
    return [prompt_of_record(row) for row in rows]


def _filtered_queries(
    config: ColdStartConfig, start: Path, services: Services, context: StageContext, held_out: HeldOut
) -> list[dict[str, Any]]:
    context.progress.say("cold_start: filtering queries")
    drawn = mixed_prompts(config.queries, count=config.num_queries, seed=context.seed, purpose="cold_start")
    clean, contaminated = held_out.exclude(drawn)
    unique, dedup_report = deduplicate(clean)
    checkable, verifiable_report = verifiable(unique)
    solved = solved_without_reasoning(checkable, start, services, context, max_tokens=config.answer_tokens)
    hard, reasoning_report = needs_reasoning(checkable, solved)
    balanced, balance_report = balance_by_domain(hard, max_ratio=config.max_domain_ratio, seed=context.seed)
    report = dedup_report.then(verifiable_report).then(reasoning_report).then(balance_report)
    context.record_data(
        "query_filters",
        {
            "drawn": len(drawn),
            "kept": len(balanced),
            "dropped": {"held out": contaminated, **report.dropped_by_reason},
            "domains": dict(Counter(prompt.domain for prompt in balanced)),
        },
    )
    return [prompt_record(prompt) for prompt in balanced]


def solved_without_reasoning(
    prompts: Sequence[Prompt], start: Path, services: Services, context: StageContext, *, max_tokens: int
) -> dict[str, bool | None]:
    """For each uid whether the model of folder `start` answers greedily without thinking; None: no verdict."""
    direct = [dataclasses.replace(prompt, enable_thinking=False) for prompt in prompts]
    greedy = SamplingConfig(temperature=0.0, max_tokens=max_tokens)
    scored = sample_and_score(direct, start, services, context, num_samples=1, sampling=greedy, purpose="without_cot")
    return {
        item.completion.prompt_uid: None if item.score.reward is None else item.score.reward == 1.0 for item in scored
    }


def _examples(
    config: ColdStartConfig, queries: list[Prompt], services: Services, context: StageContext, held_out: HeldOut
) -> list[dict[str, Any]]:
    context.progress.say(f"cold_start: {config.num_candidates} candidates for each of {len(queries)} queries")
    responses = teacher_responses(
        queries, config.teacher, num_candidates=config.num_candidates, seed=context.seed, services=services
    )
    scores = services.score(
        [ScoreRequest(r.prompt.task, r.prompt.messages, r.prompt.reference, r.answer) for r in responses]
    )
    candidates = [Candidate(r.prompt, r.reasoning, r.answer, s) for r, s in zip(responses, scores, strict=True)]
    kept, report = filter_responses(
        candidates, config.filters, validation_texts=[prompt_text(prompt) for prompt in held_out.prompts]
    )
    first: dict[str, Candidate] = {}
    for candidate in kept:
        first.setdefault(candidate.prompt.uid, candidate)
    chosen = list(first.values())[: config.num_examples]
    context.record_data(
        "response_filters",
        {
            "candidates": len(candidates),
            "kept": len(kept),
            "dropped": dict(report.dropped_by_reason),
            "queries_without_a_kept_response": len(queries) - len(first),
            "trained_on": len(chosen),
        },
    )
    return [
        {"prompt": prompt_record(item.prompt), "reasoning": item.reasoning, "answer": item.answer} for item in chosen
    ]


def training_samples_of(examples: Sequence[dict[str, Any]], tokenizer: Any) -> list[TrainingSample]:
    """Rows with loss on think block, answer and end of turn."""
    samples = []
    for example in examples:
        prompt = prompt_of_record(example["prompt"])
        answer = {"role": "assistant", "content": example["answer"], "reasoning_content": example["reasoning"]}
        row = training_row(tokenizer, [*prompt.messages, answer], tools=prompt.tools)
        samples.append(TrainingSample.supervised(row.token_ids, row.loss_mask, uid=prompt.uid, task=prompt.task))
    return samples
