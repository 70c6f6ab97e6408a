"""Obey the thinking flags of a dialogue: the last `/think` or `/no_think` decides (arXiv 2505.09388, section 4.3).

Area: format_following. Reward type: rule.
Verified: the mode. Thinking: one closed block with content, then an answer. Non-thinking: the empty block, then an
answer. Whether the answer is right is other tasks' business, but where the reference holds an integer the answer has to
be one: a bare number, a box or an equation, whatever its value, or a sentence with the right number and no other.
Known hacks: reasoning in the open after an empty block (the mode is obeyed in form only), a thinking block of filler,
and, in either mode, no answer or any text in its place.
Guard: in non-thinking mode the answer may hold no phrase of the leak lexicon, no more than one equation and no more
than MAX_PLAIN_WORDS words; a thinking block needs MIN_CONTENT words or numbers, two of them distinct.
"""

from __future__ import annotations

import random
import re

from data.chat import ParsedCompletion, last_flag, strip_flags
from data.records import Message, Score
from rewards.extract import INTEGER, integer_answer
from rewards.task import Example, ScoreRequest, Task, TaskItem, Worked
from rewards.tasks import arithmetic

MIN_CONTENT = 3
"""Words or numbers a thinking block must hold: "3+4=7" has three, the least that reasons about anything."""

MAX_PLAIN_WORDS = 40
"""Words in a non-thinking answer. The questions are sums, so that one sentence answers each of them."""

LEAK_LEXICON = (
    "let me think", "let's think", "let me see", "let me work", "let me compute", "let me check", "step by step",
    "step 1", "hmm", "wait", "first,", "first i", "i need to", "i should", "to solve this", "the user", "double-check",
    "thinking:", "reasoning:", "thought:", "okay, so", "alright, so",
)  # fmt: skip
"""Phrases that open or mark reasoning. A question whose plain answer needs one of them does not belong in this task."""

_MARKS = ".,:;!?()[]{}$*`'\""
_WORD = re.compile(r"[^\W_]+")
_EQUATION = re.compile(rf"[0-9+ ]{{1,200}}= ?({INTEGER})\.?")
_BOX = re.compile(r"\\boxed\{[^{}]*\}\.?")
_NUMBER = re.compile(r"(?<![0-9])-?[0-9]{1,18}(?![0-9])")
_FLAGS = ("/think", "/no_think")
_MAX_TURNS = (3, 5, 7)


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """A dialogue of sums with bare answers in its history.

    Level 0: 1 to 3 user turns, a flag on each. Level 1: up to 5 turns, some without a flag, some dialogues with one in
    the system message. Level 2: up to 7 turns, several flags in one message. The hard switch is not generated: it
    leaves nothing to obey. It is scored when a prompt of another source uses it.
    """
    messages: list[Message] = []
    if difficulty >= 1 and rng.random() < 0.4:
        messages.append({"role": "system", "content": f"You are a calculator. {rng.choice(_FLAGS)}"})
    num_turns = rng.randint(1, _MAX_TURNS[difficulty])
    total = 0
    for turn in range(num_turns):
        sum_item = arithmetic.generate(rng, 0)
        question, total = str(sum_item.messages[-1]["content"]), int(sum_item.reference["answer"])
        flagged = difficulty == 0 or rng.random() < 0.6
        num_flags = 0 if not flagged else rng.randint(2, 3) if difficulty >= 2 and rng.random() < 0.5 else 1
        flags = "".join(f" {rng.choice(_FLAGS)}" for _ in range(num_flags))
        messages.append({"role": "user", "content": f"{question}{flags}"})
        if turn < num_turns - 1:
            messages.append({"role": "assistant", "content": str(total)})
    mode = "non_thinking" if last_flag(messages) == "no_think" else "thinking"
    return TaskItem(tuple(messages), {"mode": mode, "answer": total}, domain="dialogue")


def work(rng: random.Random, item: TaskItem, error_rate: float) -> Worked:
    """The last sum as the arithmetic task works it, with a bare answer."""
    question = strip_flags(item.messages[-1]["content"])
    worked = arithmetic.work(rng, TaskItem(({"role": "user", "content": question},), item.reference), error_rate)
    return Worked(worked.reasoning, worked.answer.removeprefix("\\boxed{").removesuffix("}"))


def answer(item: TaskItem) -> str:
    """The bare sum."""
    return str(item.reference["answer"])


def leak(text: str) -> str | None:
    """What makes a plain answer look like reasoning, or None."""
    folded = " ".join(text.casefold().replace("’", "'").split())
    for phrase in LEAK_LEXICON:
        if re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", folded):
            return f"the answer reasons in the open ({phrase!r})"
    if text.count("=") > 1:
        return "the answer reasons in the open (several equations)"
    if len(text.split()) > MAX_PLAIN_WORDS:
        return f"the answer has more than {MAX_PLAIN_WORDS} words"
    return None


def is_an_answer(text: str, question: str, right: int) -> bool:
    """Whether a text answers a sum at all: a number in a plain form, or a sentence with the right number and no other.

    Numbers of the question may come back in the sentence.
    """
    plain = "\\boxed" not in text or _BOX.fullmatch(text.strip())
    if (plain and integer_answer(text) is not None) or _EQUATION.fullmatch(text.strip()):
        return True
    tokens = [token.strip(_MARKS) for token in re.split(r"[\s+=]+", text)]
    numbers = [token for token in tokens if any(character.isdigit() for character in token)]
    known = {str(right), *_NUMBER.findall(question)}
    return bool(numbers) and numbers[-1] == str(right) and set(numbers) <= known


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """The form of the block and of the answer, by the mode in the reference."""
    score = _mode_score(request, parsed)
    right = request.reference.get("answer")
    question = str(request.messages[-1].get("content"))
    if score.reward and type(right) is int and not is_an_answer(parsed.answer, question, right):
        return Score.incorrect("the mode is right, but there is no number for an answer")
    return score


def _mode_score(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    mode = request.reference["mode"]
    if mode == "thinking":
        content = _WORD.findall(parsed.reasoning or "")
        if parsed.block != "closed":
            return Score.incorrect(f"thinking was asked for, block is {parsed.block}")
        if len(content) < MIN_CONTENT or len(set(content)) < 2:
            return Score.incorrect("the think block has no content")
        return Score.correct()
    if mode != "non_thinking":
        raise ValueError(f"mode_flags reference has mode {mode!r}, expected thinking or non_thinking")
    prefilled = request.enable_thinking is False
    if parsed.block != ("none" if prefilled else "empty"):
        return Score.incorrect(f"no thinking was asked for, block is {parsed.block}")
    leaked = leak(parsed.answer)
    return Score.incorrect(leaked) if leaked else Score.correct()


_THINKING = {"mode": "thinking", "answer": 7}
_PLAIN = {"mode": "non_thinking", "answer": 7}

TASK = Task(
    name="mode_flags",
    area="format_following",
    reward_type="rule",
    summary="the mode that the last /think or /no_think asks for",
    hack="visible reasoning after an empty block; a block of filler; no answer, or any text in its place",
    guard="leak lexicon, equation and length limits on plain answers; minimum content of a block; a number for a sum",
    generate=generate,
    max_difficulty=len(_MAX_TURNS) - 1,
    verify=verify,
    reference_keys=("mode",),
    answer=answer,
    work=work,
    known_good=(
        Example("<think>\n3+4=7\n</think>\n\n7", _THINKING),
        Example("<think>\n\n</think>\n\n7", _PLAIN),
        Example("<think>\n\n</think>\n\n3 + 4 = 7.", _PLAIN, note="one equation is an answer"),
        Example("7", _PLAIN, enable_thinking=False, note="hard switch: the block is prefilled"),
        Example("<think>\n3+4=8\n</think>\n\n8", _THINKING, note="the mode is scored, not the value"),
        Example("<think>\n\n</think>\n\nThe sum is 7.", _PLAIN, note="a sentence with the right number"),
    ),
    known_bad=(
        Example("7", _THINKING, note="no block"),
        Example("<think>\n\n</think>\n\n7", _THINKING, note="empty block although thinking was asked for"),
        Example("<think>\n...\n</think>\n\n7", _THINKING, note="block of punctuation"),
        Example("<think>\nok ok ok ok\n</think>\n\n7", _THINKING, note="block of filler"),
        Example("<think>\n3+4=7\n</think>\n\n", _THINKING, note="no answer"),
        Example("<think>\n3+4=7\n</think>\n\nSee above.", _THINKING, note="a pointer for an answer"),
        Example("<think>\n\n</think>\n\nyes", _PLAIN, note="any text for an answer"),
        Example("<think>\n\n</think>\n\nIt is 7 or 8.", _PLAIN, note="two numbers"),
        Example("<think>\n3+4=7", _THINKING, note="unfinished thinking"),
        Example("<think>\n3+4=7\n</think>\n\n<think>\n</think>\n7", _THINKING, note="two blocks"),
        Example("<think>\n3+4=7\n</think>\n\n7", _PLAIN, note="thinking although none was asked for"),
        Example("7", _PLAIN, note="the empty block has to be written under the soft switch"),
        Example("<think>\n\n</think>\n\nLet me think. 3 and 4 make 7.", _PLAIN, note="leaked reasoning"),
        Example("<think>\n\n</think>\n\n3+1=4\n4+3=7\n7", _PLAIN, note="leaked working"),
        Example("<think>\n\n</think>\n\n" + "so " * 60 + "7", _PLAIN, note="long answer"),
        Example("<think>\n3+4=7\n</think>\n\n7", _PLAIN, enable_thinking=False, note="block after a prefilled one"),
    ),
)
