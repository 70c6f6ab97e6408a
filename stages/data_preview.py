"""Rendered rows of a stage with their loss mask, before any training: what `fourstage data preview` shows.

Shows what the stage would build from its settings and generators alone. Rows that only a model can write (the stage-2
model's own answers in thinking fusion, rollouts in RL) are shown with the task's gold completion in their place, and
are marked as such.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from data.chat import STOP_THINKING, parse_completion, training_row
from data.fusion import NonThinkingExample, ThinkingExample, build_fusion_rows
from data.records import Prompt, UserError
from data.tokenizer import train_tokenizer
from evals.evaluate import held_out_prompts
from rewards.episodes import gold_turns
from rewards.registry import get_task
from rewards.task import gold_completion, item_of
from stages.base import corpus_documents
from stages.pipeline import plan_stages
from stages.prompts import HeldOut, PromptMix, mixed_prompts, prompt_text
from stages.run_config import STAGES, RunConfig
from stages.run_dir import RunDir


def preview_rows(config: RunConfig, stage: str, count: int) -> list[dict[str, Any]]:
    """`count` rows: {"uid", "task", "source", "text", "tokens": [[text, loss mask], …]}.

    The tokenizer is that of the run's base checkpoint when it exists, else one trained on the preview's own text.
    """
    if stage not in STAGES:
        raise UserError(f"--stage: {stage!r} is no stage; choose from {', '.join(STAGES)}")
    prompts = [prompt for group in held_out_prompts(config.evaluation).values() for prompt in group]
    held_out = HeldOut.of(prompts, ngram=config.evaluation.decontamination_ngram)
    tokenizer = _tokenizer(config, held_out)
    if stage == "base":
        documents = corpus_documents(config.base, seed=config.seed, held_out=held_out, limit=count)[0]
        ids = [tokenizer(document, add_special_tokens=False)["input_ids"] for document in documents]
        return [
            _row(f"base/{index}", "base", "generated", tokenizer, row, [0] + [1] * (len(row) - 1))
            for index, row in enumerate(ids)
        ]
    if stage == "thinking_fusion":
        return _fusion_rows(config, held_out, tokenizer, count)
    mix = {
        "cold_start": config.cold_start.queries,
        "reasoning_rl": config.reasoning_rl.queries,
        "general_rl": config.general_rl.prompts,
    }[stage]
    rows = []
    for prompt in _clean(mix, config, held_out, stage, count):
        encoded = training_row(
            tokenizer,
            [*prompt.messages, _gold_message(prompt)],
            tools=prompt.tools,
            enable_thinking=prompt.enable_thinking,
        )
        source = "prompt with the gold completion (an episode's first turn); RL samples its own"
        source = "worked solution" if stage == "cold_start" else source
        rows.append(_row(prompt.uid, prompt.task, source, tokenizer, encoded.token_ids, encoded.loss_mask))
    return rows


def _clean(mix: PromptMix, config: RunConfig, held_out: HeldOut, purpose: str, count: int) -> list[Prompt]:
    drawn = mixed_prompts(mix, count=4 * count + 8, seed=config.seed, purpose=purpose)
    return held_out.exclude(drawn)[0][:count]


def _fusion_rows(config: RunConfig, held_out: HeldOut, tokenizer: Any, count: int) -> list[dict[str, Any]]:
    thinking = []
    for prompt in _clean(config.cold_start.queries, config, held_out, "cold_start", count):
        parsed = parse_completion(gold_completion(get_task(prompt.task), prompt))
        if parsed.reasoning:
            thinking.append(ThinkingExample(prompt, parsed.reasoning.strip("\n"), parsed.answer))
    non_thinking = []
    for prompt in _clean(config.thinking_fusion.non_thinking, config, held_out, "thinking_fusion", count):
        answer = get_task(prompt.task).answer
        if answer is not None:
            non_thinking.append(NonThinkingExample(prompt, answer(item_of(prompt))))
    rows = []
    for row in build_fusion_rows(thinking, non_thinking, config.thinking_fusion.rows, seed=config.seed)[:count]:
        encoded = training_row(tokenizer, row.messages, tools=row.tools)
        source = f"{row.mode}; thinking rows hold the gold solution here, the stage-2 model's own answer in a run"
        rows.append(_row(row.uid, row.task, source, tokenizer, encoded.token_ids, encoded.loss_mask))
    return rows


def _gold_message(prompt: Prompt) -> dict[str, Any]:
    """The gold completion, of an episode its first turn."""
    first = gold_turns(get_task(prompt.task), prompt)[0]
    parsed = parse_completion(first, prefilled=prompt.enable_thinking is False)
    return {"role": "assistant", "content": parsed.answer, "reasoning_content": parsed.reasoning or ""}


def _row(uid: str, task: str, source: str, tokenizer: Any, ids: Any, mask: Any) -> dict[str, Any]:
    pieces = [[tokenizer.decode([token]), int(loss)] for token, loss in zip(ids, mask, strict=True)]
    return {"uid": uid, "task": task, "source": source, "text": tokenizer.decode(list(ids)), "tokens": pieces}


def _tokenizer(config: RunConfig, held_out: HeldOut) -> Any:
    from transformers import AutoTokenizer

    planned = plan_stages(config, RunDir(config.run_dir), config.stages)[0]
    for folder in (planned.checkpoint_folder, planned.folder / "initial"):
        if (folder / "tokenizer.json").exists():
            return AutoTokenizer.from_pretrained(folder)
    if config.base.import_from is not None:
        source = Path(config.base.import_from.folder or config.base.import_from.package or "")
        raise UserError(f"recipe: {source} is not taken in yet; run `fourstage run RECIPE --until base` first")
    texts = [prompt_text(prompt) for prompt in held_out.prompts]
    documents = corpus_documents(
        config.base, seed=random.Random(config.seed).getrandbits(16), held_out=held_out, limit=500
    )
    return train_tokenizer([*documents[0], *texts, STOP_THINKING], vocab_size=config.base.model.vocab_size)


def render_rows(rows: list[dict[str, Any]], console: Console) -> None:
    """Print rows: tokens with loss in green, tokens without in grey; line ends and turn markers stay visible."""
    for row in rows:
        with_loss = sum(loss for _, loss in row["tokens"])
        console.rule(f"{row['uid']}   {with_loss} of {len(row['tokens'])} tokens carry loss", align="left")
        console.print(Text(row["source"], style="italic"))
        text = Text()
        for piece, loss in row["tokens"]:
            text.append(piece.replace("\n", "⏎\n"), style="green" if loss else "bright_black")
        console.print(text)
    console.print(Text("green: carries loss", style="green"), Text("grey: does not", style="bright_black"))
