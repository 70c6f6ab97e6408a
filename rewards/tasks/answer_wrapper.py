"""Put one number, the right one, into the wrapper that the user describes in words.

Area: format_following.
Reward type: rule.
Verified: the wrapper, exactly once and where it was asked for, and the number in it. At level 0 the number is given,
from level 1 on it has to be computed; from level 2 on text may stand before the last line.
Known hacks: several wrapped numbers, the number in every wrapper at once, the wrapper around a sentence that holds the
number, a wrong number in the right form.
Guard: the answer or its last line is the wrapped number and nothing else; before it no number in the asked wrapper
or in one that marks answers; the value is compared as text, so that `7.0` and `+7` are not 7.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from data.chat import ParsedCompletion
from data.records import Score
from rewards.task import Example, ScoreRequest, Task, TaskItem, Worked


@dataclass(frozen=True, slots=True)
class Wrapper:
    """What stands before and after the number, and two ways to say so in words."""

    opening: str
    closing: str
    words: tuple[str, str]


WRAPPERS = {
    "square": Wrapper("[[", "]]", ("in double square brackets", "between two opening and two closing square brackets")),
    "angular": Wrapper("<<", ">>", ("in double angle brackets", "between two less-than and two greater-than signs")),
    "round": Wrapper("(", ")", ("in round brackets", "between one opening and one closing parenthesis")),
    "curly": Wrapper("{", "}", ("in curly brackets", "between one opening and one closing brace")),
    "bold": Wrapper("**", "**", ("in bold Markdown", "with two asterisks on either side")),
    "code": Wrapper("`", "`", ("in backticks", "as inline code in Markdown")),
    "bars": Wrapper("|", "|", ("between two bars", "with a vertical bar on either side")),
    "dollar": Wrapper("$", "$", ("between dollar signs", "as inline mathematics with one dollar sign on either side")),
    "tags": Wrapper("<answer>", "</answer>", ("in answer tags", "as the content of an XML element named answer")),
    "boxed": Wrapper("\\boxed{", "}", ("in a LaTeX box", "as the argument of the LaTeX command boxed")),
    "label": Wrapper("Answer: ", "", ("after the label Answer and a colon", "behind the word Answer and a colon")),
}  # fmt: skip
_INNER = ("bold", "code", "dollar")
"""Wrappers that may stand inside another one at level 3."""

_OUTER = ("square", "angular", "curly", "tags", "label")
_NUMBER = r"[+-]?[0-9][0-9.,]*+"
ANSWER_MARKS = ("square", "angular", "tags", "boxed", "label")
"""Wrappers that mark an answer wherever they stand; brackets, bold and code around a number are part of prose."""


def _wrapped(opening: str, closing: str) -> re.Pattern[str]:
    pattern = rf"{re.escape(opening.strip())}[ \t]*+{_NUMBER}[ \t]*+{re.escape(closing)}"
    return re.compile(pattern, re.IGNORECASE)


_MARKED = tuple(_wrapped(WRAPPERS[name].opening, WRAPPERS[name].closing) for name in ANSWER_MARKS)
_GIVEN = ("Write {} {}.", "The number is {}. Give it {}.", "Take {} and put it {}.")
_NUM_LEVELS = 4


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """Level 0: a number to copy. 1: a sum up to 40. 2: three terms, text allowed before the last line.

    Level 3: a product and a term, and a wrapper inside a wrapper.
    """
    if difficulty == 3:
        outer, inner = WRAPPERS[rng.choice(_OUTER)], WRAPPERS[rng.choice(_INNER)]
        opening, closing = outer.opening + inner.opening, inner.closing + outer.closing
        words = f"{rng.choice(inner.words)}, and all of that {rng.choice(outer.words)}"
    else:
        wrapper = WRAPPERS[rng.choice(sorted(WRAPPERS))]
        opening, closing = wrapper.opening, wrapper.closing
        words = wrapper.words[0] if difficulty == 0 else rng.choice(wrapper.words)
    if difficulty == 0:
        value = rng.randint(10, 199)
        question = rng.choice(_GIVEN).format(value, words)
    else:
        expression, value = _expression(rng, difficulty)
        if difficulty == 1:
            question = f"Compute {expression}. Give the number alone, {words}."
        else:
            question = f"Compute {expression}. Explain if you like. The last line must be the number alone, {words}."
    reference = {"open": opening, "close": closing, "answer": str(value), "alone": difficulty < 2}
    return TaskItem(({"role": "user", "content": question},), reference, domain="format")


def _expression(rng: random.Random, difficulty: int) -> tuple[str, int]:
    if difficulty == 1:
        left, right = rng.randint(2, 20), rng.randint(2, 20)
        return f"{left} + {right}", left + right
    if difficulty == 2:
        first, second, third = rng.randint(20, 99), rng.randint(20, 99), rng.randint(2, 60)
        return f"{first} + {second} - {third}", first + second - third
    left, right, term = rng.randint(12, 49), rng.randint(3, 19), rng.randint(20, 99)
    return f"{left} * {right} + {term}", left * right + term


def answer(item: TaskItem) -> str:
    """The wrapped number."""
    return f"{item.reference['open']}{item.reference['answer']}{item.reference['close']}"


def work(rng: random.Random, item: TaskItem, error_rate: float) -> Worked:
    """The calculation step by step, then the wrapper; a wrong step is 1 too large or takes another wrapper."""
    reference, question = item.reference, str(item.messages[-1]["content"])
    lines = []
    found = re.match(r"Compute ([0-9]+) ([+*]) ([0-9]+)(?: ([+-]) ([0-9]+))?", question)
    if found is None:
        value = int(reference["answer"]) + (rng.random() < error_rate)
    else:
        left, sign, right = int(found[1]), found[2], int(found[3])
        value = (left + right if sign == "+" else left * right) + (rng.random() < error_rate)
        lines.append(f"{left}{sign}{right}={value}")
        if found[4]:
            term = int(found[5]) * (1 if found[4] == "+" else -1)
            total = value + term + (rng.random() < error_rate)
            lines.append(f"{value}{found[4]}{found[5]}={total}")
            value = total
    opening, closing = reference["open"], reference["close"]
    if rng.random() < error_rate:
        other = WRAPPERS[rng.choice([name for name in sorted(WRAPPERS) if WRAPPERS[name].opening != opening])]
        opening, closing = other.opening, other.closing
    lines.append(f"{value}: {opening.strip()} {closing}".rstrip())
    return Worked("\n".join(lines), f"{opening}{value}{closing}")


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """The last line, then what stands before it, then the value."""
    reference = request.reference
    text = parsed.answer.strip()
    before, _, last = text.rpartition("\n")
    if reference["alone"] and before.strip():
        return Score.incorrect("text outside the wrapper")
    opening, closing = reference["open"], reference["close"]
    last = last.strip()
    if not (last.startswith(opening) and last.endswith(closing) and len(last) > len(opening) + len(closing)):
        return Score.incorrect("the last line is not the asked wrapper" if before else "not the asked wrapper")
    if any(pattern.search(before) for pattern in (*_MARKED, _wrapped(opening, closing))):
        return Score.incorrect("more than one wrapped number")
    held = last[len(opening) : len(last) - len(closing)]
    if not re.fullmatch(r"-?[0-9]{1,60}", held.strip()):
        return Score.incorrect("the wrapper holds something else than one number")
    return Score.correct() if held.strip() == reference["answer"] else Score.incorrect("wrong number")


_ALONE = {"open": "[[", "close": "]]", "answer": "47", "alone": True}
_LAST = {"open": "\\boxed{", "close": "}", "answer": "47", "alone": False}
_LABEL = {"open": "Answer: ", "close": "", "answer": "47", "alone": False}
_NESTED = {"open": "[[**", "close": "**]]", "answer": "47", "alone": False}


def _example(completion: str, note: str, reference: dict[str, object] = _ALONE) -> Example:
    return Example(completion, reference, note=note)


TASK = Task(
    name="answer_wrapper",
    area="format_following",
    reward_type="rule",
    summary="one right number in a wrapper that is described in words",
    hack="several answers, every wrapper at once, a sentence in the wrapper, a wrong number in form",
    guard="the last line is the wrapped number alone, no other wrapped number, values compared as text",
    generate=generate,
    max_difficulty=_NUM_LEVELS - 1,
    verify=verify,
    reference_keys=("open", "close", "answer", "alone"),
    answer=answer,
    work=work,
    fragments=("[[", "]]", "<<", ">>", "**", "`", "|", "$", "Answer: ", "\\boxed{", "}", "47"),
    known_good=(
        _example("<think>\n47: [[ ]]\n</think>\n\n[[47]]", "after thinking"),
        _example("[[ 47 ]]", "blanks inside"),
        _example("40 + 7 makes 47 (of course).\n\\boxed{47}", "text before the last line", _LAST),
        _example("First (40 + 7).\n\nAnswer: 47", "label", _LABEL),
        _example("[[**47**]]", "wrapper in a wrapper", _NESTED),
    ),
    known_bad=(
        _example("47", "no wrapper"),
        _example("[47]", "half of the wrapper"),
        _example("[[48]]", "wrong number"),
        _example("[[47]] [[48]]", "two answers"),
        _example("[[47]][[47]]", "the same answer twice"),
        _example("[[47 or 48]]", "hedge inside"),
        _example("[[the number 47]]", "words inside"),
        _example("[[47.0]]", "another form of the number"),
        _example("[[４７]]", "digits of another script"),
        _example("[[N]]", "the template"),
        _example("[[[[47]]]]", "the wrapper inside itself"),
        _example("[[40 + 7]]", "the question in the wrapper"),
        _example("[[+47]]", "a sign"),
        _example("The number is [[47]]", "text around"),
        _example("[[47]]\n\\boxed{47}\n**47**", "every wrapper"),
        _example("\\boxed{46}\n\\boxed{47}", "another answer before", _LAST),
        _example("Answer: 46\n\\boxed{47}", "another wrapper with another answer before", _LAST),
        _example("\\boxed{47}\nI hope this helps.", "text after", _LAST),
        _example("Answer: 47 or 48", "hedge behind the label", _LABEL),
        _example("**[[47]]**", "the wrong way round", _NESTED),
        _example("[[47", "never closed"),
        _example("[[" * 9000, "brackets without end"),
        _example("<think>\n[[47]]", "answer inside unfinished thinking"),
    ),
)
