"""Put the right answer into a wrapper that is described in words, once, with nothing around it.

Area: instruction_following. Reward type: rule.
Verified: the answer is the asked wrapper around the right number; where working is asked for, one line with the
calculation stands before it. Nothing else.
Known hacks: several answers of which a lenient reader finds the right one, every wrapper at once, the right wrapper
around a template such as N, prose around it.
Guard: the whole answer is compared, so that one wrapper with one number is all it can hold.
"""

from __future__ import annotations

import random
from typing import Any

from data.chat import ParsedCompletion
from data.records import Score
from rewards.task import Example, ScoreRequest, Task, TaskItem, Worked

_WRAPPERS = {
    "in a LaTeX box": ("\\boxed{", "}"),
    "between answer tags": ("<answer>", "</answer>"),
    "in double square brackets": ("[[", "]]"),
    "after the word Answer and a colon": ("Answer: ", ""),
    "between result tags": ("<result>", "</result>"),
    "in double curly brackets": ("{{", "}}"),
    "in bold Markdown": ("**", "**"),
    "in backticks": ("`", "`"),
    "in double quotation marks": ('"', '"'),
    "after two number signs and a blank": ("## ", ""),
}
"""Words of the request to what stands before and after the number; the first `_NUM_WRAPPERS` of them at each level."""

_NUM_WRAPPERS = (4, 10, 10)
_LARGEST = (12, 60, 400)
_REQUESTS = ("Compute {sum}. Put only the result {place}.", "What is {sum}? Write the number {place}, alone.")


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """Level 0: sums up to 24 in one of four wrappers, 1,152 prompts. Level 1: sums and differences, ten wrappers.

    Level 2: three terms, with the calculation on a first line half of the time and a wrapper that must not be used.
    """
    places = list(_WRAPPERS)[: _NUM_WRAPPERS[difficulty]]
    place, other = rng.sample(places, 2)
    terms = [rng.randint(1, _LARGEST[difficulty]) for _ in range(3 if difficulty == 2 else 2)]
    signs = ["+"] + [rng.choice("+-") if difficulty else "+" for _ in terms[1:]]
    calculation = " ".join(f"{sign} {term}" for sign, term in zip(signs, terms, strict=True)).removeprefix("+ ")
    total = sum(term if sign == "+" else -term for sign, term in zip(signs, terms, strict=True))
    question = rng.choice(_REQUESTS).format(sum=calculation, place=place)
    working = difficulty == 2 and rng.random() < 0.5
    if working:
        question = f"Compute {calculation}. First line: the calculation with its result. Last line: the result {place}."
    if difficulty == 2:
        question += f" Do not write it {other}."
    opening, closing = _WRAPPERS[place]
    reference = {
        "open": opening, "close": closing, "answer": str(total), "calculation": calculation, "working": working,
    }  # fmt: skip
    return TaskItem(({"role": "user", "content": question},), reference, domain="format")


def answer(item: TaskItem) -> str:
    """The wrapped number, after its calculation where that is asked for."""
    return _written(item.reference, item.reference["answer"], item.reference["open"], item.reference["close"])


def _written(reference: dict[str, Any], total: str, opening: str, closing: str) -> str:
    line = f"{reference['calculation']} = {total}\n" if reference["working"] else ""
    return f"{line}{opening}{total}{closing}"


def work(rng: random.Random, item: TaskItem, error_rate: float) -> Worked:
    """Calculation, then the wrapper; a wrong step is a result 1 too large, or the wrapper of another request."""
    reference = item.reference
    total = str(int(reference["answer"]) + (rng.random() < error_rate))
    wrapper = (reference["open"], reference["close"])
    if rng.random() < error_rate:
        wrapper = rng.choice([pair for pair in _WRAPPERS.values() if pair != wrapper])
    opening, closing = wrapper
    line = f"{reference['calculation'].replace(' ', '')}={total}, as {opening}N{closing}"
    return Worked(line, _written(reference, total, opening, closing))


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """The whole answer against the asked form. ValueError for a reference without a wrapper."""
    reference = request.reference
    opening, closing, expected = (str(reference[key]).strip() for key in ("open", "close", "answer"))
    if not opening and not closing:
        raise ValueError("answer_wrapper: the reference has neither 'open' nor 'close': name what wraps the answer")
    lines = [line for line in parsed.answer.split("\n") if line.strip()]
    if reference.get("working"):
        if len(lines) != 2:
            return Score.incorrect(f"{len(lines)} lines, asked for the calculation and the result")
        if _squeezed(lines[0]) != _squeezed(f"{reference['calculation']}={expected}"):
            return Score.incorrect("the first line is not the calculation with its result")
        lines = lines[1:]
    if len(lines) != 1:
        return Score.incorrect(f"{len(lines)} lines where the wrapped answer stands alone")
    text = lines[0].strip()
    if len(text) < len(opening) + len(closing) or not (text.startswith(opening) and text.endswith(closing)):
        return Score.incorrect("not the asked wrapper alone")
    found = text[len(opening) : len(text) - len(closing)].strip()
    return Score.correct() if found == expected else Score.incorrect("the wrapper does not hold the right value alone")


def _squeezed(line: str) -> str:
    return "".join(line.split())


_BOX = {"open": "\\boxed{", "close": "}", "answer": "7", "calculation": "3 + 4", "working": False}
_LINE = _BOX | {"open": "Answer: ", "close": ""}
_BRACKETS = _BOX | {"open": "[[", "close": "]]"}
_WORKING = _BRACKETS | {"working": True}

TASK = Task(
    name="answer_wrapper",
    area="instruction_following",
    reward_type="rule",
    summary="the right number in a wrapper described in words, exactly once",
    hack="several answers or wrappers, of which a lenient reader takes the right one",
    guard="the whole answer is compared with the asked form",
    generate=generate,
    max_difficulty=len(_NUM_WRAPPERS) - 1,
    verify=verify,
    reference_keys=("open", "close", "answer"),
    answer=answer,
    work=work,
    fragments=("[[", "]]", "Answer: ", "\\boxed{7}", "<answer>7</answer>", "{{", "`"),
    known_good=(
        Example("<think>\n3+4=7\n</think>\n\n\\boxed{7}", _BOX, note="after thinking"),
        Example("Answer: 7\n", _LINE, note="answer line"),
        Example("[[ 7 ]]", _BRACKETS, note="blanks inside"),
        Example("3+4 = 7\n\n[[7]]", _WORKING, note="with its calculation"),
    ),
    known_bad=(
        Example("", _BOX, note="empty"),
        Example("7", _BOX, note="no wrapper"),
        Example("<answer>7</answer>", _BOX, note="another wrapper"),
        Example("\\boxed{8}", _BOX, note="wrong value"),
        Example("\\boxed{7} \\boxed{7}", _BOX, note="the same twice"),
        Example("\\boxed{6} \\boxed{7}", _BOX, note="two answers"),
        Example("\\boxed{7} [[7]] <answer>7</answer>", _BOX, note="every wrapper"),
        Example("The answer is \\boxed{7}.", _BOX, note="text outside"),
        Example("\\boxed{N}", _BOX, note="the template"),
        Example("\\boxed{\\boxed{7}}", _BOX, note="wrapper in wrapper"),
        Example("\\boxed{7 or 8}", _BOX, note="hedge"),
        Example("\\boxed{3+4}", _BOX, note="the question in the wrapper"),
        Example("\\boxed{７}", _BOX, note="digits of another script"),
        Example("3 + 4 = 7\nAnswer: 7", _LINE, note="working that nobody asked for"),
        Example("Answer: 6\nAnswer: 7", _LINE, note="two answer lines"),
        Example("Answer: 7\nDone", _LINE, note="answer line is not the last"),
        Example("[[7]]", _WORKING, note="calculation missing"),
        Example("3 + 4 = 8\n[[7]]", _WORKING, note="calculation wrong"),
        Example("[[" * 9000 + "]]", _BRACKETS, note="wrapper opens without end"),
        Example("<think>\n\\boxed{7}", _BOX, note="answer inside unfinished thinking"),
    ),
)
