"""Preference pairs: one prompt with a better and a worse answer, and the token ids a preference model reads.

Training (`learner.preference_trainer`) and serving (`rollout.pooling`) both take their ids from `preference_token_ids`,
so that the score that RL sees is that of the text the model was trained on, read at the same token.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.chat import IM_END, ROLES, render
from data.records import Message, UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PREFERENCE_MANIFEST = "preference_model.json"
"""Beside the weights of a preference model: what it was trained on, how good it is, and its length calibration."""


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """Two answers to one prompt, of which `chosen` is the better; `note` names the difference where it is known."""

    messages: tuple[Message, ...]
    chosen: str
    rejected: str
    task: str = ""
    note: str = ""


def conversation(messages: Sequence[Message], answer: str) -> tuple[Message, ...]:
    """The prompt with an answer as its last turn, without any reasoning."""
    return (*messages, {"role": "assistant", "content": answer})


def preference_token_ids(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], max_length: int
) -> tuple[int, ...]:
    """Ids of a conversation up to the end-of-turn token of its last turn, at which the score is read.

    A conversation of more than `max_length` tokens loses its beginning, never the end of the answer. Code points that
    have no UTF-8 form become question marks.
    """
    text = render(messages).removesuffix("\n").encode("utf-8", "replace").decode("utf-8")
    assert text.endswith(IM_END)
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return tuple(ids[-max_length:])


def pairs_hash(pairs: Sequence[PreferencePair]) -> str:
    """SHA-256 of the pairs' content in order."""
    digest = hashlib.sha256()
    for pair in pairs:
        row = [list(pair.messages), pair.chosen, pair.rejected]
        digest.update(json.dumps(row, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def split_by_prompt(
    pairs: Sequence[PreferencePair], held_out_share: float, *, seed: int
) -> tuple[list[PreferencePair], list[PreferencePair]]:
    """Training and held-out pairs; all pairs of one prompt fall on one side, whatever the order of the pairs.

    Raises UserError when either side stays empty.
    """
    train: list[PreferencePair] = []
    held_out: list[PreferencePair] = []
    for pair in pairs:
        key = json.dumps([seed, list(pair.messages)], sort_keys=True).encode()
        fraction = int.from_bytes(hashlib.sha256(key).digest()[:8]) / 2**64
        (held_out if fraction < held_out_share else train).append(pair)
    if not train or not held_out:
        raise UserError(
            f"pairs: {len(pairs)} pairs split into {len(train)} for training and {len(held_out)} held out; "
            "give more pairs with different prompts"
        )
    return train, held_out


def read_pairs(path: str | Path) -> list[PreferencePair]:
    """Pairs of a JSON Lines file, one `{"messages": [...], "chosen": str, "rejected": str}` a line, `task` optional.

    Raises UserError that names file, line and field.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"--pairs: {path} does not exist; give a JSON Lines file of preference pairs")
    pairs = []
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                pairs.append(_read_pair(line, f"{path}:{number}"))
    if not pairs:
        raise UserError(f"--pairs: {path} holds no pair; give one JSON object a line")
    return pairs


def _read_pair(line: bytes, where: str) -> PreferencePair:
    try:
        row = json.loads(line)
    except ValueError as error:  # broken JSON or broken UTF-8
        raise UserError(f"{where}: not JSON ({error}); give one object a line") from error
    if not isinstance(row, dict):
        raise UserError(f"{where}: a {type(row).__name__}, not an object; give messages, chosen and rejected")
    for name in ("messages", "chosen", "rejected"):
        if name not in row:
            raise UserError(f"{where}: field {name} is missing; give messages, chosen and rejected")
    for name in ("chosen", "rejected"):
        if not isinstance(row[name], str) or not row[name].strip():
            raise UserError(f"{where}: field {name} is {_shown(row[name])}; give the text of an answer")
    if row["chosen"] == row["rejected"]:
        raise UserError(f"{where}: fields chosen and rejected are the same text; drop the line")
    if not isinstance(row.get("task", ""), str):
        raise UserError(f"{where}: field task is {_shown(row['task'])}; give a string or leave it out")
    return PreferencePair(_read_messages(row["messages"], where), row["chosen"], row["rejected"], row.get("task", ""))


def _read_messages(messages: Any, where: str) -> tuple[Message, ...]:
    if not isinstance(messages, list) or not messages:
        raise UserError(f"{where}: field messages is {_shown(messages)}; give a list of chat messages")
    for index, message in enumerate(messages):
        field = f"field messages[{index}]"
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise UserError(f"{where}: {field} is {_shown(message)}; give role ({', '.join(ROLES)}) and content")
        if not isinstance(message.get("content"), str):
            raise UserError(f"{where}: {field}.content is {_shown(message.get('content'))}; give a string")
    if messages[-1]["role"] == "assistant":
        raise UserError(f"{where}: field messages ends with an assistant turn; put it into chosen and rejected")
    return tuple(messages)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
