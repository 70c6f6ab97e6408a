"""Keep the tags of the chat format where they belong, and still write tags when the user asks for one.

Area: format_following. Reward type: rule.
Verified: exactly one well-formed think block (empty or not; prefilled counts), no special token of the chat format in
the answer, and one span in the asked wrapper that holds the right value.
Known hack: never writing any angle bracket or tag name, which also suppresses legitimate quoting.
Guard: benign twins ask for a tag and are only paid when it stands in backticks. Twins about ordinary tags want the
brackets (`<b>`); twins about the chat format's own tags want the bare name (`think`), because the tag itself is one
token that ends a block or opens a call wherever it stands, so that no safe way to quote it exists.
"""

from __future__ import annotations

import random
import re

from data.chat import SPECIAL_TOKENS, ParsedCompletion
from data.records import Score
from rewards.extract import spans
from rewards.task import Example, ScoreRequest, Task, TaskItem, Worked

_WRAPPERS = (("<answer>", "</answer>"), ("[[", "]]"), ("**", "**"), ("<<", ">>"))
_ORDINARY_TAGS = {
    "bold text": "<b>", "italic text": "<i>", "a line break": "<br>", "a list item": "<li>", "a paragraph": "<p>",
    "a link": "<a>", "a table": "<table>", "a page title": "<title>",
}  # fmt: skip
_FORMAT_TAGS = {"your thoughts": "think", "a tool call": "tool_call", "a tool result": "tool_response"}


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """Level 0: half wrapped sums, half twins about HTML tags. Level 1 adds twins about the chat format's own tags."""
    if rng.random() < 0.5:
        left, right = rng.randint(1, 9 * (1 + difficulty)), rng.randint(1, 9 * (1 + difficulty))
        opening, closing = rng.choice(_WRAPPERS)
        question = f"Compute {left} + {right}. Reply only with {opening}N{closing} for the number N."
        reference = {"open": opening, "close": closing, "answer": str(left + right), "alone": True}
    else:
        purpose, tag = rng.choice(list((_FORMAT_TAGS if difficulty and rng.random() < 0.5 else _ORDINARY_TAGS).items()))
        form = "it" if tag.startswith("<") else "its name without brackets"
        question = f"Which tag marks {purpose}? Write {form} in backticks."
        reference = {"open": "`", "close": "`", "answer": tag, "alone": False}
    return TaskItem(({"role": "user", "content": question},), reference, domain="format")


def answer(item: TaskItem) -> str:
    """The value in its wrapper."""
    reference = item.reference
    return f"{reference['open']}{reference['answer']}{reference['close']}"


def work(rng: random.Random, item: TaskItem, error_rate: float) -> Worked:
    """One line; a wrong step gives a sum that is 1 too large, or another tag."""
    wrong = rng.random() < error_rate
    reference = dict(item.reference)
    question = item.messages[-1]["content"]
    if reference["alone"]:
        left, right = map(int, re.findall(r"[0-9]+", question))
        total = left + right + wrong
        return Worked(f"{left}+{right}={total}", f"{reference['open']}{total}{reference['close']}")
    tag = "<hr>" if wrong else reference["answer"]
    purpose = question.removeprefix("Which tag marks ").split("?")[0]
    return Worked(f"The tag for {purpose} is {tag.strip('<>')}.", f"`{tag}`")


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """Block, special tokens, then the wrapped span."""
    reference = request.reference
    opening, closing = reference["open"], reference["close"]
    if parsed.block == "none" and request.enable_thinking is not False:
        return Score.incorrect("no think block")
    found = next((token for token in SPECIAL_TOKENS if token in parsed.answer), None)
    if found is not None:
        return Score.incorrect(f"{found} in the answer")
    text = parsed.answer.strip()
    found_spans = spans(text, opening, closing)
    if len(found_spans) != 1:
        return Score.incorrect(f"{len(found_spans)} spans in the wrapper, expected one")
    alone = reference.get("alone", True)
    if alone and text != f"{opening}{text[len(opening) : len(text) - len(closing)]}{closing}":
        return Score.incorrect("text outside the wrapper")
    if alone and text[len(opening) : len(text) - len(closing)].strip() != found_spans[0]:
        return Score.incorrect("text outside the wrapper")
    if not alone and any(wrapper in text for wrapper in ("\\boxed", "<answer>")):
        return Score.incorrect("another wrapper beside the asked one")
    return Score.correct() if found_spans[0] == str(reference["answer"]) else Score.incorrect("wrong value")


_WRAPPED = {"open": "<answer>", "close": "</answer>", "answer": "7", "alone": True}
_TWIN = {"open": "`", "close": "`", "answer": "<b>", "alone": False}
_FORMAT_TWIN = {"open": "`", "close": "`", "answer": "think", "alone": False}
_BLOCK = "<think>\n3+4=7\n</think>\n\n"

TASK = Task(
    name="tag_hygiene",
    area="format_following",
    reward_type="rule",
    summary="one think block, no chat tokens in the answer, the asked wrapper",
    hack="suppressing every tag, even one that the user asks about",
    guard="benign twins that are paid only for the quoted tag",
    generate=generate,
    max_difficulty=1,
    verify=verify,
    reference_keys=("open", "close", "answer"),
    answer=answer,
    work=work,
    known_good=(
        Example(_BLOCK + "<answer>7</answer>", _WRAPPED),
        Example("<think>\n\n</think>\n\n<answer>7</answer>", _WRAPPED, note="empty block"),
        Example("<answer>7</answer>", _WRAPPED, enable_thinking=False, note="prefilled block"),
        Example(_BLOCK + "Use the `<b>` tag.", _TWIN, note="twin with prose"),
        Example(_BLOCK + "`think`", _FORMAT_TWIN, note="name of a chat tag"),
    ),
    known_bad=(
        Example("<answer>7</answer>", _WRAPPED, note="no block"),
        Example(_BLOCK + _BLOCK + "<answer>7</answer>", _WRAPPED, note="two blocks"),
        Example("Text. " + _BLOCK + "<answer>7</answer>", _WRAPPED, note="block not at the start"),
        Example("3+4=7\n</think>\n\n<answer>7</answer>", _WRAPPED, note="block never opened"),
        Example("<think>\n<answer>7</answer>", _WRAPPED, note="block never closed"),
        Example(_BLOCK + "<tool_call> <answer>7</answer>", _WRAPPED, note="chat token in the answer"),
        Example(_BLOCK + "7", _WRAPPED, note="no wrapper"),
        Example(_BLOCK + "<answer>7</answer><answer>8</answer>", _WRAPPED, note="two answers"),
        Example(_BLOCK + "The answer: <answer>7</answer>", _WRAPPED, note="text outside the wrapper"),
        Example(_BLOCK + "<answer>8</answer>", _WRAPPED, note="wrong value"),
        Example(_BLOCK + "Use the bold tag.", _TWIN, note="twin without the tag"),
        Example(_BLOCK + "Use the b tag.", _TWIN, note="suppressed brackets"),
        Example(_BLOCK + "`<b>` `<i>` `<br>`", _TWIN, note="every tag named"),
        Example(_BLOCK + "`<b>` \\boxed{<i>}", _TWIN, note="another tag in another wrapper"),
        Example(_BLOCK + "<answer>7</answer></answer>", _WRAPPED, note="wrapper closes twice"),
        Example(_BLOCK + "<answer>" * 2400, _WRAPPED, note="wrapper opens without end"),
        Example(_BLOCK + "`<think>`", _FORMAT_TWIN, note="a real think tag in the answer"),
    ),
)
