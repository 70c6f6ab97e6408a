"""The base model: trained from scratch on generated text (the embedded default), or any Hugging Face folder taken in.

Not a stage of the report, which starts from Qwen3's own base models (§3). The embedded base exists so that the whole
pipeline runs on a machine without an accelerator. Its corpus is what the reward tasks' generators write: questions with
worked solutions that err at a set rate, direct answers, some in turns and some as plain text, so that it is a base
model in spirit: it has seen the skills and the format, masters neither, and leaves every later stage something to do.

A pretrained model may take its place (stages/import_model.py).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.chat import END_OF_TEXT, IM_END, STOP_THINKING, render, strip_flags
from data.episodes import episode_texts
from data.licence import require_licence_name
from data.records import Message, Prompt, TrainingSample, UserError
from data.tokenizer import end_token_ids, train_tokenizer
from learner.context_length import YarnConfig, stretch_positions
from rewards.registry import get_task
from rewards.task import completion_text, item_of
from stages.import_model import ImportConfig, import_model, imported_licence
from stages.prompts import HeldOut, PromptMix, mixed_prompts
from stages.services import Services
from stages.sft_loop import SFTConfig, run_sft
from stages.stage_context import StageContext


@dataclass(frozen=True, kw_only=True, slots=True)
class TinyModelConfig:
    """Shape of the embedded Qwen3; at most 8 M parameters are meant."""

    vocab_size: int = 1024
    hidden_size: int = 128
    intermediate_size: int = 384
    num_layers: int = 4
    num_heads: int = 4
    num_kv_heads: int = 2
    head_dim: int = 32
    max_positions: int = 1024
    initializer_range: float = 0.06  # 0.02 suits models ten times as wide; see benchmarks/embedded_model.md

    def validate(self) -> None:
        sizes = ("hidden_size", "intermediate_size", "num_layers", "num_heads", "num_kv_heads", "head_dim")
        for name in (*sizes, "max_positions"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: {getattr(self, name)} must be 1 or more")
        if self.num_heads % self.num_kv_heads:
            raise UserError(f"num_kv_heads: {self.num_kv_heads} must divide num_heads={self.num_heads}")
        if not self.initializer_range > 0:
            raise UserError(f"initializer_range: {self.initializer_range} must be above 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseConfig:
    """The base stage. With `import_from` set nothing is trained; without it a `corpus` is needed.

    `num_documents` documents of the `corpus` mixture; each step of a worked solution is wrong with `error_rate`, or
    with the rate that `error_rates` gives its task;
    `direct_share` of them give the answer alone, `plain_share` are plain text without turns; of those whose prompt has
    tools it is `plain_tools_share`, because the tools' definitions are many tokens that teach the least.
    `yarn` stretches the positions of the model, taken in or embedded, for this stage and all after it.
    `licence` is the SPDX identifier of a model trained here (one taken in has `import_from.licence`); all checkpoints
    that come of it declare it.
    """

    import_from: ImportConfig | None = None
    licence: str | None = None
    yarn: YarnConfig | None = None
    model: TinyModelConfig = field(default_factory=TinyModelConfig)
    corpus: PromptMix | None = None  # no default: a recipe's tasks would be merged with it
    num_documents: int = 20000
    error_rate: float = 0.1
    error_rates: dict[str, float] = field(default_factory=dict)
    direct_share: float = 0.25
    plain_share: float = 0.1
    plain_tools_share: float = 0.1
    train: SFTConfig = field(default_factory=SFTConfig)

    def validate(self) -> None:
        for name in ("error_rate", "direct_share", "plain_share", "plain_tools_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name}: {getattr(self, name)} must lie in [0, 1]")
        for task, rate in self.error_rates.items():
            if not 0 <= rate <= 1:
                raise UserError(f"error_rates.{task}: {rate} must lie in [0, 1]")
            if self.corpus is not None and task not in self.corpus.tasks:
                raise UserError(f"error_rates.{task}: is no task of the corpus; it has {', '.join(self.corpus.tasks)}")
        require_licence_name(self.licence)
        if self.num_documents < 1:
            raise UserError(f"num_documents: {self.num_documents} must be 1 or more")
        if self.corpus is None and self.import_from is None:
            raise UserError("corpus: null leaves nothing to train on; name its tasks, or give import_from.folder")


def run(
    config: BaseConfig, start: Path | None, services: Services, context: StageContext, held_out: HeldOut
) -> dict[str, float]:
    """Leave a base model in the learner. `start` is not used: this is the root of the pipeline."""
    del start
    licence_of(config)  # two that differ stop the stage before it begins
    folder = context.path / "initial"
    if config.import_from is not None:
        if not folder.exists():
            for line in import_model(config.import_from, folder, yarn=config.yarn):
                context.progress.say(line)
        services.learner.load(folder, config.train.learner, seed=context.seed)
        return {}
    context.progress.say(f"base: writing {config.num_documents:,} documents")
    documents, dropped = corpus_documents(config, seed=context.seed, held_out=held_out)
    for line in _starved(config, dropped):
        context.progress.warn(line)
    counts = {"documents": len(documents), "dropped_held_out": dropped.total(), "dropped_by_task": dict(dropped)}
    context.record_data("corpus", counts)
    if not folder.exists():
        _initial_model(config, documents, folder, seed=context.seed)
    samples = list(_rows(documents, services.tokenizer(folder)))
    return run_sft(samples, config.train, folder, services, context)


def licence_of(config: BaseConfig) -> str | None:
    """The licence of the base and so of all that comes of it; None when neither the settings nor its card say it."""
    return config.licence if config.import_from is None else imported_licence(config.import_from)


def corpus_documents(
    config: BaseConfig, *, seed: int, held_out: HeldOut, limit: int | None = None
) -> tuple[list[str], Counter[str]]:
    """The corpus, clear of held-out prompts, and how many of each task were dropped; `limit` makes it shorter."""
    assert config.corpus is not None, "base: checked by BaseConfig.validate"
    count = config.num_documents if limit is None else 2 * limit + 8
    drawn = mixed_prompts(config.corpus, count=count, seed=seed, purpose="base", distinct=False)
    prompts, _ = held_out.exclude(drawn)
    dropped = Counter(prompt.task for prompt in drawn) - Counter(prompt.task for prompt in prompts)
    documents = [
        text
        for position, prompt in enumerate(prompts[:limit])
        for text in _documents(prompt, random.Random(f"base/{seed}/{position}"), config)
    ]
    return documents[:limit], dropped


def _starved(config: BaseConfig, dropped: Mapping[str, int]) -> list[str]:
    """A line for each task that has lost more than half of its documents: the base will hardly know it."""
    assert config.corpus is not None
    shares = config.corpus.tasks
    total = sum(share.weight for share in shares.values())
    lines = []
    for name, share in shares.items():
        drawn = config.num_documents * share.weight / total
        if dropped.get(name, 0) > 0.5 * drawn:
            lines.append(
                f"base: {dropped[name]:,} of about {drawn:,.0f} documents of task {name} share text with held-out "
                "prompts and are left out; give the benchmark fewer prompts or the task more levels"
            )
    return lines


def _documents(prompt: Prompt, rng: random.Random, config: BaseConfig) -> list[str]:
    """What the corpus says of one question: a worked solution, the bare answer, or an episode of several turns."""
    task = get_task(prompt.task)
    error_rate = config.error_rates.get(task.name, config.error_rate)
    if task.demonstrate is not None:
        turns = task.demonstrate(rng, item_of(prompt), error_rate)
        thinking = rng.random() >= config.direct_share
        return episode_texts(_without_flags(prompt.messages), turns, tools=prompt.tools, thinking=thinking)
    return [_document(prompt, rng, config, error_rate)]


def _document(prompt: Prompt, rng: random.Random, config: BaseConfig, error_rate: float) -> str:
    """One question with a worked solution or with the bare answer."""
    task = get_task(prompt.task)
    if task.work is None:
        raise UserError(
            f"base.corpus.tasks: {prompt.task!r} has no worked-solution generator; leave it out of the corpus"
        )
    worked = task.work(rng, item_of(prompt), error_rate)
    direct = rng.random() < config.direct_share
    messages = _without_flags(prompt.messages)
    if rng.random() < (config.plain_share if prompt.tools is None else config.plain_tools_share):
        reasoning = "" if direct else f"{worked.reasoning}\n"
        return f"{messages[-1]['content']}\n{reasoning}{worked.answer}{END_OF_TEXT}"
    completion = completion_text(worked, "non_thinking" if direct else "thinking")
    return render(messages, tools=prompt.tools, add_generation_prompt=True) + completion + IM_END


def _without_flags(messages: Sequence[Message]) -> list[Message]:
    flagged = ("user", "system")
    return [
        {**message, "content": strip_flags(str(message["content"]))} if message["role"] in flagged else message
        for message in messages
    ]


def _rows(documents: list[str], tokenizer: Any) -> Iterator[TrainingSample]:
    """Whole documents with loss on every token but the first."""
    for index, ids in enumerate(tokenizer(documents, add_special_tokens=False)["input_ids"]):
        yield TrainingSample.supervised(tuple(ids), (0,) + (1,) * (len(ids) - 1), uid=f"base/{index}", task="base")


def _initial_model(config: BaseConfig, documents: list[str], folder: Path, *, seed: int) -> None:
    """A tokenizer trained on the corpus and a Qwen3 with random weights, as an ordinary Hugging Face folder."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from learner.model_folder import export_model

    # The stop-thinking sentence is in the tokenizer's text, so that it is a few tokens; the model never sees it.
    tokenizer = train_tokenizer([*documents[:4000], STOP_THINKING], vocab_size=config.model.vocab_size)
    shape = config.model
    torch.manual_seed(seed)
    model_config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=shape.max_positions,
        rope_theta=10000.0,
        initializer_range=shape.initializer_range,
        tie_word_embeddings=True,
        eos_token_id=list(end_token_ids(tokenizer)),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    if config.yarn is not None:
        stretch_positions(model_config, config.yarn)
    export_model(Qwen3ForCausalLM(model_config), tokenizer, folder)
