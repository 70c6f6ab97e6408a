"""Checkpoints for the tests of serving: tiny policies, and ones whose every word is written down in advance."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from data.chat import CALL_CLOSE, CALL_OPEN, IM_END, THINK_CLOSE, THINK_OPEN
from data.tokenizer import add_chat_tokens, contract, train_tokenizer
from learner.checkpoint import Manifest, write_checkpoint
from learner.model_folder import engine_state_dict, export_model
from tests.integration.tiny_policies import scripted, tiny_model

CALL = '\n{"name": "add", "arguments": {"a": 2, "b": 3}}\n'
BREAK = "\n\n"
ANSWER_TOKENS = (BREAK, CALL)
"""Texts that are one token each, so that a script, which knows the last token alone, can tell them apart."""


def serving_tokenizer() -> PreTrainedTokenizerBase:
    tokenizer = train_tokenizer(["the sum of two and three is five", "a then b then c"] * 4, vocab_size=320)
    tokenizer.add_tokens(list(ANSWER_TOKENS))
    add_chat_tokens(tokenizer)
    return tokenizer


def save_checkpoint(
    folder: Path,
    *,
    script: Mapping[str, str] | None = None,
    seed: int = 0,
    stage: str = "general_rl",
    changes: Mapping[str, Any] | None = None,
    max_positions: int = 512,
    spoil: Callable[[Path], None] | None = None,
) -> Path:
    """A checkpoint as a stage writes it: random weights, or those that answer each text with the next one.

    `changes` go into config.json; `spoil` gets the folder before its files are hashed. Weights of another seed or
    script make another checkpoint of the same shape.
    """
    tokenizer = serving_tokenizer()
    model = tiny_model("qwen3", len(tokenizer), tied=False, seed=seed, max_positions=max_positions)
    if script is not None:
        ids = {text: tokenizer.encode(text, add_special_tokens=False) for pair in script.items() for text in pair}
        assert all(len(found) == 1 for found in ids.values()), ids
        chain = {ids[before][0]: ids[after][0] for before, after in script.items()}
        model.load_state_dict(scripted(engine_state_dict(model), chain))

    def write(partial: Path) -> None:
        export_model(model, tokenizer, partial / "exported")
        for path in (partial / "exported").iterdir():
            path.rename(partial / path.name)
        (partial / "exported").rmdir()
        config = json.loads((partial / "config.json").read_text())
        (partial / "config.json").write_text(json.dumps({**config, **(changes or {})}))
        if spoil is not None:
            spoil(partial)

    write_checkpoint(folder, manifest_of(tokenizer, stage=stage), write)
    return folder


def manifest_of(tokenizer: PreTrainedTokenizerBase, *, stage: str) -> Manifest:
    return Manifest(
        stage=stage, key="k", parent=None, config_hash="c", data_hash="d", contract=contract(tokenizer), rewards=(),
        seeds={"run": 0}, code_commit="0", packages={}, metrics={}, cost={},
    )  # fmt: skip


THINKS_A_SAYS_B = {"\n": THINK_OPEN, THINK_OPEN: "a", "a": THINK_CLOSE, THINK_CLOSE: BREAK, BREAK: "b", "b": IM_END}
"""Thinks "a", answers "b". Without thinking (the template writes the empty block) it answers "b" at once."""

THINKS_FOR_EVER_SAYS_D = {"\n": THINK_OPEN, THINK_OPEN: "c", "c": "c", BREAK: "d", "d": IM_END}
"""Thinks "ccc…" until a budget stops it, answers "d"."""

CALLS_ADD = {
    "\n": THINK_OPEN, THINK_OPEN: "a", "a": THINK_CLOSE, THINK_CLOSE: BREAK, BREAK: CALL_OPEN, CALL_OPEN: CALL,
    CALL: CALL_CLOSE, CALL_CLOSE: IM_END,
}  # fmt: skip
"""Thinks "a", calls add(2, 3)."""
