"""Stage 3, thinking-mode fusion (Qwen3 report, arXiv 2505.09388, section 4.3).

Continual SFT of the stage-2 model on both modes at once. Thinking rows: answers of the stage-2 model itself to the
stage-1 queries, kept by rejection sampling. Non-thinking rows: other queries with direct answers that pass a checklist.
Flags stand in user queries or the system message; some thinking rows carry none, since thinking is the default; in
dialogues flags change over the turns and the answer obeys the last. Non-thinking rows keep the empty block and carry
loss on it. Each row is rendered per turn, exactly as at inference (data/fusion.py, data/chat.py).

Departures. Ratios and sizes are undisclosed: ours are settings. The report's checklists are written and judged by a
model; here a checklist is the reward task's own verifier plus two rules (no think tags, no visible reasoning).
Non-thinking answers come from the tasks' generators, which err at `non_thinking_error_rate` before the checklist sees
them.
"""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.chat import parse_completion, training_row
from data.fusion import FusionConfig, NonThinkingExample, ThinkingExample, build_fusion_rows
from data.records import Prompt, Score, TrainingSample, UserError
from rewards.registry import get_task
from rewards.task import ScoreRequest, item_of
from rollout.policy import SamplingConfig
from stages.prompts import HeldOut, PromptMix, mixed_prompts, same_item
from stages.sampling import sample_and_score
from stages.services import Services
from stages.sft_loop import SFTConfig, run_sft
from stages.stage_context import StageContext


@dataclass(frozen=True, kw_only=True, slots=True)
class ThinkingFusionConfig:
    """Stage 3. `samples_per_query` completions are drawn for each stage-1 query, the first right one is kept."""

    non_thinking: PromptMix
    num_non_thinking: int = 400
    num_thinking: int = 400
    samples_per_query: int = 2
    non_thinking_error_rate: float = 0.05
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(temperature=0.6, top_p=0.95, top_k=20))
    rows: FusionConfig = field(default_factory=FusionConfig)
    train: SFTConfig = field(default_factory=SFTConfig)

    def validate(self) -> None:
        for name in ("num_non_thinking", "num_thinking", "samples_per_query"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: {getattr(self, name)} must be 1 or more")
        if not 0 <= self.non_thinking_error_rate <= 1:
            raise UserError(f"non_thinking_error_rate: {self.non_thinking_error_rate} must lie in [0, 1]")


def run(
    config: ThinkingFusionConfig,
    start: Path,
    services: Services,
    context: StageContext,
    held_out: HeldOut,
    stage_1_queries: Sequence[Prompt],
) -> dict[str, float]:
    """Build the fusion rows and train on them; the learner then holds a model with both modes."""
    rows = context.cached_rows("rows", lambda: _rows(config, start, services, context, held_out, stage_1_queries))
    tokenizer = services.tokenizer(start)
    return run_sft([sample_of_row(row, tokenizer) for row in rows], config.train, start, services, context)


def sample_of_row(row: dict[str, Any], tokenizer: Any) -> TrainingSample:
    """A fusion row as tokens with their loss mask."""
    encoded = training_row(tokenizer, row["messages"], tools=row["tools"])
    return TrainingSample.supervised(encoded.token_ids, encoded.loss_mask, uid=row["uid"], task=row["task"])


def _rows(
    config: ThinkingFusionConfig,
    start: Path,
    services: Services,
    context: StageContext,
    held_out: HeldOut,
    stage_1_queries: Sequence[Prompt],
) -> list[dict[str, Any]]:
    thinking = _rejection_sampled(config, start, services, context, stage_1_queries)
    taken = {same_item(prompt) for prompt in stage_1_queries}
    non_thinking = _checked_answers(config, services, context, held_out, taken)
    rows = build_fusion_rows(thinking, non_thinking, config.rows, seed=context.seed)
    context.record_data("fusion_rows", {"rows": len(rows), "modes": dict(Counter(row.mode for row in rows))})
    return [dataclasses.asdict(row) for row in rows]


def _rejection_sampled(
    config: ThinkingFusionConfig, start: Path, services: Services, context: StageContext, queries: Sequence[Prompt]
) -> list[ThinkingExample]:
    """Right answers of the stage-2 model itself, at the most one a query."""
    queries = list(queries)
    random.Random(f"fusion/{context.seed}").shuffle(queries)
    queries = queries[: config.num_thinking]
    context.progress.say(
        f"thinking_fusion: sampling {config.samples_per_query} answers to {len(queries)} stage-1 queries"
    )
    scored = sample_and_score(
        queries, start, services, context,
        num_samples=config.samples_per_query, sampling=config.sampling, purpose="rejection",
    )  # fmt: skip
    by_uid = {prompt.uid: prompt for prompt in queries}
    kept: dict[str, ThinkingExample] = {}
    for item in scored:
        parsed = parse_completion(item.completion.text)
        prompt = by_uid[item.completion.prompt_uid]
        if item.score.reward == 1.0 and parsed.block == "closed" and prompt.uid not in kept:
            kept[prompt.uid] = ThinkingExample(prompt, (parsed.reasoning or "").strip("\n"), parsed.answer)
    context.record_data("rejection_sampling", {"queries": len(queries), "completions": len(scored), "kept": len(kept)})
    return list(kept.values())


def _checked_answers(
    config: ThinkingFusionConfig, services: Services, context: StageContext, held_out: HeldOut, taken: set[str]
) -> list[NonThinkingExample]:
    """Direct answers to queries that stage 1 did not use, passed by the checklist."""
    drawn = mixed_prompts(
        config.non_thinking, count=config.num_non_thinking, seed=context.seed, purpose="thinking_fusion"
    )
    clean, contaminated = held_out.exclude(drawn)
    unused = [prompt for prompt in clean if same_item(prompt) not in taken]
    answers = [_direct_answer(prompt, config.non_thinking_error_rate, context.seed) for prompt in unused]
    scores = services.score(
        [
            ScoreRequest(prompt.task, prompt.messages, prompt.reference, answer, enable_thinking=False)
            for prompt, answer in zip(unused, answers, strict=True)
        ]
    )
    kept = [
        NonThinkingExample(prompt, answer)
        for prompt, answer, score in zip(unused, answers, scores, strict=True)
        if _is_good(prompt, score) and not checklist_failures(answer)
    ]
    context.record_data(
        "checklist",
        {
            "drawn": len(drawn),
            "dropped": {
                "held out": contaminated,
                "used in stage 1": len(clean) - len(unused),
                "failed": len(unused) - len(kept),
            },
            "kept": len(kept),
        },
    )
    return kept


def _is_good(prompt: Prompt, score: Score) -> bool:
    """Right, or for a task that a preference model rates, better than its average answer (reward one half)."""
    graded = get_task(prompt.task).reward_type == "preference_model"
    return score.reward is not None and score.reward >= (0.5 if graded else 1.0)


def checklist_failures(answer: str) -> list[str]:
    """What a direct answer must not have besides being wrong: think tags, or several lines of visible working."""
    failures = []
    if "<think>" in answer or "</think>" in answer:
        failures.append("think tags in the answer")
    if sum(1 for line in answer.splitlines() if "=" in line) > 1:
        failures.append("visible working")
    return failures


def _direct_answer(prompt: Prompt, error_rate: float, seed: int) -> str:
    """The task's gold answer, or at `error_rate` that of another item, which the checklist has to catch."""
    task = get_task(prompt.task)
    if task.answer is None:
        raise UserError(f"thinking_fusion.non_thinking.tasks: {prompt.task!r} has no answer generator; leave it out")
    rng = random.Random(f"direct/{seed}/{prompt.uid}")
    if rng.random() < error_rate:
        return task.answer(task.generate(rng, prompt.difficulty))
    return task.answer(item_of(prompt))
