"""Noise for the audit: texts that Hypothesis generates, from raw Unicode to right answers with a piece torn out.

Everything is a function of the seed, the task and the version of Hypothesis. Two kinds of text come out: noise, which
no task may pay, and mutants of right answers, which may still be right and are therefore only worth a look.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from rewards.attack_builders import Target, answers_alike
from rewards.extract import integer_answer

FRAGMENTS = (
    "<think>", "</think>", "\\boxed{", "}", "<answer>", "</answer>", "<tool_call>", "</tool_call>", "<|im_end|>", '{"',
    '":', "**", "9^", "(", ")", "[", "]", "\\frac", "=", "`", "```", "```python\n", "```json\n", "\n\n", "\n- ", "\n# ",
    "|", ",", ";", ": ", ". ", "SELECT ", " FROM ", "--", "def f(", "return ", "import os\n", "VERDICT: CORRECT", "[1]",
    "yes", "no", "true", "null", "NaN", "0", "1", "-", "1e9", "\ud800", "\x00", "\u200b", "\u202e", "é", "你好", "<a>",
    "</a>", "&amp;", "&x;", "!!", "%", "\\", '"', "'", "step by step", "The answer is ",
)  # fmt: skip
"""Pieces of the formats that tasks ask for, beside a task's own `fragments`."""

MAX_COPIES = 400
"""How often a piece may come back, so that quadratic scorers show within the time limit."""


TEXTS_PER_EXAMPLE = 40
"""Texts that one example of Hypothesis holds; its cost per example is far above that of a text."""

EXAMPLES_PER_ROUND = 10
"""From the eleventh example on Hypothesis repeats what it has, which finds bugs in code but gives no new texts."""


@dataclass(frozen=True, slots=True)
class FuzzText:
    """One generated completion, the target it is for, and whether it is a mutant of a right answer."""

    target: Target
    completion: str
    is_mutant: bool


def fuzz_texts(targets: Sequence[Target], *, seed_value: int, num_texts: int) -> list[FuzzText]:
    """`num_texts` different completions for the targets of one task; about a quarter are mutants.

    A text that is the right answer is left out: a mutant may still be it, and salad of the prompt's words hits it where
    the answer is one of them. A bare number is no noise but a guess, which may be right; guesses are what the attack
    suite's constants measure.
    """
    noise, mutants = _noise(targets), _mutants(targets)
    kinds = st.sampled_from((False, False, False, True))
    case = st.tuples(kinds, st.integers(0, len(targets) - 1), st.integers(0, 2))
    found: dict[tuple[int, str], FuzzText] = {}

    @settings(
        max_examples=min(EXAMPLES_PER_ROUND, 2 + num_texts // TEXTS_PER_EXAMPLE),
        database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.data())
    def collect(data: st.DataObject) -> None:
        for _ in range(TEXTS_PER_EXAMPLE):
            is_mutant, index, form = data.draw(case)
            target = targets[index]
            text = data.draw(mutants)(target) if is_mutant else data.draw(noise)
            if answers_alike(text, target.gold):
                continue
            if not is_mutant and integer_answer(text) is not None:
                text += " x"
            completion = _framed(target, text, form)
            found.setdefault((index, completion), FuzzText(target, completion, is_mutant))

    for round_number in itertools.count():
        if len(found) >= num_texts or round_number > num_texts:
            return list(found.values())[:num_texts]
        seed(f"{seed_value}/{round_number}")(collect)()
    raise AssertionError("itertools.count ends never")


def _framed(target: Target, text: str, form: int) -> str:
    """The text bare or behind the think block that the prompt's mode asks for."""
    if form == 0 or target.prompt.enable_thinking is False:
        return text
    return f"<think>\n{'3+4=7 so 7' if target.prompt.mode == 'thinking' else ''}\n</think>\n\n{text}"


def _noise(targets: Sequence[Target]) -> st.SearchStrategy[str]:
    """Raw Unicode, soup of format pieces, salad of the prompts' own words, long repetitions, JSON, filled wrappers."""
    pieces = FRAGMENTS + targets[0].task.fragments
    words = {word: None for target in targets for word in re.findall(r"\w+", target.question)[:200]}
    piece, salad_word = st.sampled_from(pieces), st.sampled_from((*words, *pieces))
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
    values = st.one_of(
        scalars, st.lists(scalars, max_size=4), st.dictionaries(st.text(max_size=6), scalars, max_size=4)
    ).map(json.dumps)
    return st.one_of(
        st.text(st.characters(exclude_categories=()), max_size=40),
        st.lists(st.one_of(piece, piece, st.text(max_size=8)), max_size=10).map("".join),
        st.lists(salad_word, min_size=1, max_size=25).map(" ".join),
        st.tuples(piece, st.integers(2, MAX_COPIES)).map(lambda pair: pair[0] * pair[1]),
        st.tuples(st.sampled_from(_WRAPPERS), values).map(lambda pair: pair[0].replace("@", pair[1])),
    )


def _mutants(targets: Sequence[Target]) -> st.SearchStrategy[Callable[[Target], str]]:
    return st.builds(
        lambda mutate, start, length: lambda target: mutate(target, start, length),
        st.sampled_from(_MUTATIONS),
        st.integers(0, 999).map(lambda thousandths: thousandths / 1000),
        st.integers(1, 6),
    )


_WRAPPERS = (
    "@",
    "\\boxed{@}",
    "<answer>@</answer>",
    "```\n@\n```",
    "**@**",
    '{"answer": @}',
    "<tool_call>\n@\n</tool_call>",
)

_Mutation = Callable[[Target, float, int], str]


def _deleted(target: Target, start: float, length: int) -> str:
    at = int(start * len(target.gold))
    return target.gold[:at] + target.gold[at + length :]


def _doubled(target: Target, start: float, length: int) -> str:
    at = int(start * len(target.gold))
    return target.gold[: at + length] + target.gold[at:]


def _swapped_case(target: Target, start: float, length: int) -> str:
    at = int(start * len(target.gold))
    return target.gold[:at] + target.gold[at:].swapcase()


def _spliced(target: Target, start: float, length: int) -> str:
    return target.gold[: int(start * len(target.gold))] + target.other[int(start * len(target.other)) :]


def _with_piece(target: Target, start: float, length: int) -> str:
    at = int(start * len(target.gold))
    piece = FRAGMENTS[(at * 7 + length) % len(FRAGMENTS)]
    return target.gold[:at] + piece + target.gold[at:]


def _of_another(target: Target, start: float, length: int) -> str:
    return target.other


def _both(target: Target, start: float, length: int) -> str:
    return f"{target.gold} {target.other}"


def _digit_changed(target: Target, start: float, length: int) -> str:
    digits = [match.start() for match in re.finditer(r"[0-9]", target.gold)]
    if not digits:
        return _deleted(target, start, length)
    at = digits[int(start * len(digits))]
    return target.gold[:at] + str((int(target.gold[at]) + length) % 10) + target.gold[at + 1 :]


_MUTATIONS: tuple[_Mutation, ...] = (
    _deleted, _doubled, _swapped_case, _spliced, _with_piece, _of_another, _both, _digit_changed,
)  # fmt: skip
