"""Builds the conversations of thinking-mode fusion (stage 3): one policy that thinks or not, as the last flag says.

    thinking examples + non-thinking examples -> FusionRow -> data.chat.training_row -> TrainingSample

Source: Qwen3 report (arXiv 2505.09388), section 4.3 and table 9. Thinking examples are the stage-2 model's own accepted
answers to stage-1 queries, non-thinking examples come from a wider set; the caller has sampled and filtered both.
* A thinking row ends in " /think", or in no flag at all for a share of the rows, because thinking is the default.
* A non-thinking row carries " /no_think" and trains on an empty think block, so that the format never changes.
* The flag stands in the user query or in the system message.
* In a dialogue flags come and go over the user queries, and each answer obeys the last one seen so far.

Departures and choices, where the report gives no numbers or says nothing:
* all shares are settings, met as rounded counts instead of coin flips, so that a small data set keeps its proportions;
* a dialogue is a chain of unrelated queries, since only the flags have to be learned from it;
* prompts with tools, a system message or turns of their own stay single conversations;
* flags that a prompt brings along are removed first: those placed here are the only ones.
Pure: the same inputs and seed give the same rows on any machine.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from typing import Any, Literal

from data.chat import last_flag, strip_flags
from data.records import Message, Mode, Prompt, UserError


@dataclass(frozen=True, slots=True)
class ThinkingExample:
    """A query with accepted reasoning and answer, sampled from the stage-2 model."""

    prompt: Prompt
    reasoning: str
    answer: str

    def __post_init__(self) -> None:
        if not self.reasoning.strip() or not self.answer.strip():
            raise UserError(f"thinking example {self.prompt.uid!r}: reasoning or answer is empty; filter it out")

    @property
    def mode(self) -> Mode:
        return "thinking"


@dataclass(frozen=True, slots=True)
class NonThinkingExample:
    """A query with an answer that is given without reasoning."""

    prompt: Prompt
    answer: str

    def __post_init__(self) -> None:
        if not self.answer.strip():
            raise UserError(f"non-thinking example {self.prompt.uid!r}: answer is empty; filter it out")

    @property
    def reasoning(self) -> str:
        return ""

    @property
    def mode(self) -> Mode:
        return "non_thinking"


FusionExample = ThinkingExample | NonThinkingExample


@dataclass(frozen=True, slots=True)
class FusionConfig:
    """Proportions of the fusion data; every share lies in [0, 1]. The defaults are ours, the report gives none.

    default_share: of the single thinking conversations, those without any flag.
    multi_turn_share: of each mode's plain queries (one user message, no tools), those chained into dialogues.
    max_turns: most queries in one dialogue; its length is drawn uniformly from 2 to this.
    switch_share: of the steps from one turn to the next, those that change the mode, as far as the examples allow.
        A low share gives runs in which one flag holds for several turns, and only they teach that a flag lasts.
    carried_share: of the dialogue turns whose mode is already in force, those without a flag of their own.
    system_flag_share: of the flags that open a conversation, those in the system message; later flags stay in queries.
    train_turns: whether each turn of a dialogue becomes a row, or only its last.
    """

    default_share: float = 0.3
    multi_turn_share: float = 0.3
    max_turns: int = 4
    switch_share: float = 0.5
    carried_share: float = 0.5
    system_flag_share: float = 0.1
    train_turns: Literal["all", "last"] = "all"

    def __post_init__(self) -> None:
        for name in ("default_share", "multi_turn_share", "switch_share", "carried_share", "system_flag_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"fusion.{name}: {getattr(self, name)} is not a share; give a number from 0 to 1")
        if self.max_turns < 2:
            raise UserError(f"fusion.max_turns: {self.max_turns} is no dialogue; give 2 or more")
        if self.train_turns not in ("all", "last"):
            raise UserError(f"fusion.train_turns: {self.train_turns!r} is unknown; give 'all' or 'last'")


@dataclass(frozen=True, slots=True)
class FusionRow:
    """A conversation whose last message, an assistant turn in `mode`, is trained on; render with enable_thinking None.

    `uid` (prompt uid and mode) and `task` name the prompt that the last turn answers.
    """

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] | None
    uid: str
    task: str
    mode: Mode


@dataclass(frozen=True, slots=True)
class _Turn:
    """One example in its place: whether it carries a flag, and whether that flag is in the system message."""

    example: FusionExample
    flagged: bool
    in_system: bool = False

    @property
    def flag(self) -> str:
        return "/think" if self.example.mode == "thinking" else "/no_think"


def build_fusion_rows(
    thinking: Sequence[ThinkingExample],
    non_thinking: Sequence[NonThinkingExample],
    config: FusionConfig,
    *,
    seed: int,
) -> list[FusionRow]:
    """All fusion rows in shuffled order; a query is used at most once per mode (see `unique_queries`).

    Raises UserError for a prompt without a user message or with content that is not text.
    """
    rng = random.Random(f"thinking fusion {seed}")  # seeded by text, which Python hashes the same in every process
    singles: list[FusionExample] = []
    chained: list[FusionExample] = []
    for examples in (unique_queries(thinking), unique_queries(non_thinking)):
        plain = [index for index, example in enumerate(examples) if _is_plain(example.prompt)]
        chosen = _choose(rng, plain, config.multi_turn_share)
        chained += [example for index, example in enumerate(examples) if index in chosen]
        singles += [example for index, example in enumerate(examples) if index not in chosen]
    chained = _in_runs(rng, chained, config.switch_share)
    dialogues, left_over = _cut_dialogues(rng, chained, config.max_turns)
    conversations = _flag_singles(rng, singles + left_over, config) + _flag_dialogues(rng, dialogues, config)
    conversations = _place_flags(rng, conversations, config)
    rows = [row for turns in conversations for row in _rows(turns, config)]
    rng.shuffle(rows)
    return rows


def unique_queries(examples: Sequence[FusionExample]) -> list[FusionExample]:
    """The first example of each query, in order; two prompts are one query when text without flags and tools agree."""
    first: dict[str, FusionExample] = {}
    for example in examples:
        prompt = example.prompt
        key = json.dumps([_unflagged_messages(prompt), prompt.tools], sort_keys=True, default=dict)
        first.setdefault(key, example)
    return list(first.values())


def _choose(rng: random.Random, candidates: Sequence[int], share: float) -> set[int]:
    """A share of the candidates, rounded half up to a whole number of them."""
    return set(rng.sample(candidates, int(share * len(candidates) + 0.5)))


def _is_plain(prompt: Prompt) -> bool:
    return prompt.tools is None and [message.get("role") for message in prompt.messages] == ["user"]


def _unflagged_messages(prompt: Prompt) -> list[dict[str, Any]]:
    """The prompt's messages without flags in user and system text."""
    messages = [dict(message) for message in prompt.messages]
    for message in messages:
        if message.get("role") in ("user", "system"):
            if not isinstance(message.get("content"), str):
                raise UserError(f"prompt {prompt.uid!r}: {message['role']} content is not text; give a string")
            message["content"] = strip_flags(message["content"])
    if not any(message.get("role") == "user" for message in messages):
        raise UserError(f"prompt {prompt.uid!r}: no user message to carry a flag; give one")
    return messages


def _in_runs(rng: random.Random, examples: Sequence[FusionExample], switch_share: float) -> list[FusionExample]:
    """The examples in a random order in which a share of the steps changes the mode; left-over ones come last."""
    shuffled = rng.sample(list(examples), len(examples))
    waiting = {mode: [e for e in shuffled if e.mode == mode] for mode in ("thinking", "non_thinking")}
    switches = _choose(rng, range(1, len(shuffled)), switch_share)
    order: list[FusionExample] = []
    for position, drawn in enumerate(shuffled):
        mode = order[-1].mode if order else drawn.mode
        if position in switches or not waiting[mode]:
            other: Mode = "non_thinking" if mode == "thinking" else "thinking"
            mode = other if waiting[other] else mode
        order.append(waiting[mode].pop())
    return order


def _cut_dialogues(
    rng: random.Random, examples: Sequence[FusionExample], max_turns: int
) -> tuple[list[list[FusionExample]], list[FusionExample]]:
    """Cut the examples into dialogues of 2 to `max_turns` turns; the second value is the one that may be left alone."""
    dialogues: list[list[FusionExample]] = []
    start = 0
    while (num_left := len(examples) - start) >= 2:
        lengths = [length for length in range(2, min(max_turns, num_left) + 1) if num_left - length != 1]
        length = rng.choice(lengths or [2])  # without a choice (2 of 3, dialogues of 2) one example has to stay alone
        dialogues.append(list(examples[start : start + length]))
        start += length
    return dialogues, list(examples[start:])


def _flag_singles(rng: random.Random, examples: Sequence[FusionExample], config: FusionConfig) -> list[list[_Turn]]:
    """Single conversations: a share of the thinking ones has no flag, which makes them rows of the default mode."""
    thinking = [index for index, example in enumerate(examples) if example.mode == "thinking"]
    unflagged = _choose(rng, thinking, config.default_share)
    return [[_Turn(example, flagged=index not in unflagged)] for index, example in enumerate(examples)]


def _flag_dialogues(
    rng: random.Random, dialogues: Sequence[Sequence[FusionExample]], config: FusionConfig
) -> list[list[_Turn]]:
    """Dialogues: a turn that changes the mode in force must carry a flag; of the others a share carries none."""
    modes = [[example.mode for example in dialogue] for dialogue in dialogues]
    in_force = [before == mode for turns in modes for before, mode in pairwise(("thinking", *turns))]
    unflagged = _choose(rng, [index for index, redundant in enumerate(in_force) if redundant], config.carried_share)
    examples = chain.from_iterable(dialogues)
    turns = iter([_Turn(example, flagged=index not in unflagged) for index, example in enumerate(examples)])
    return [[next(turns) for _ in dialogue] for dialogue in dialogues]


def _place_flags(rng: random.Random, conversations: list[list[_Turn]], config: FusionConfig) -> list[list[_Turn]]:
    """Move a share of the flags that open a conversation into its system message."""
    opening = [index for index, turns in enumerate(conversations) if turns[0].flagged]
    in_system = _choose(rng, opening, config.system_flag_share)
    return [
        [replace(opener, in_system=index in in_system), *later] for index, (opener, *later) in enumerate(conversations)
    ]


def _rows(turns: Sequence[_Turn], config: FusionConfig) -> list[FusionRow]:
    """One row per trained turn; earlier turns stand in the history as bare answers, as the chat format renders them."""
    rows = []
    history: list[Message] = []
    for turn in turns:
        example, prompt = turn.example, turn.example.prompt
        history += _flagged_messages(turn)
        answer = {"role": "assistant", "content": example.answer, "reasoning_content": example.reasoning}
        uid = f"{prompt.uid}/{example.mode}"
        rows.append(FusionRow((*history, answer), prompt.tools, uid, prompt.task, example.mode))
        obeyed = (last_flag(history) == "no_think") == (example.mode == "non_thinking")
        assert obeyed, f"{uid}: the last flag and the mode of the answer differ"
        history.append({"role": "assistant", "content": example.answer})
    return rows if config.train_turns == "all" else rows[-1:]


def _flagged_messages(turn: _Turn) -> list[Message]:
    messages = _unflagged_messages(turn.example.prompt)
    if not turn.flagged:
        return list(messages)
    if turn.in_system and messages[0]["role"] != "system":
        return [{"role": "system", "content": turn.flag}, *messages]
    role = "system" if turn.in_system else "user"
    place = max(index for index, message in enumerate(messages) if message["role"] == role)
    messages[place]["content"] = f"{messages[place]['content']} {turn.flag}"
    return list(messages)
