"""ThinkFollow (arXiv 2505.09388, section 4.6) with noise: obey thinking flags as people come to write them.

Area: format_following. Reward type: rule.
Verified: what `mode_flags` verifies, the mode and that there is a number for an answer.
Known hack: `mode_flags`'s own: reasoning in the open, a block of filler, no answer.
Guard: `mode_flags`'s own.

Each level is one kind of noise, which is also the prompt's domain, so that results can be read kind by kind:
language (the question is in another language), wrong_case (/No_Think: the chat format knows lower case alone, what the
user wants is plain all the same), quoted (somebody else's flag is mentioned in quotes before the user's own), system
(the flag stands in the system message, and in half of the dialogues a user turn overrules it), contradictory (several
flags in one message: the last one wins). Apart from wrong_case the mode asked for is the chat format's own reading.
"""

from __future__ import annotations

import random

from data.chat import ParsedCompletion
from data.records import Message, Score
from rewards.task import Example, ScoreRequest, Task, TaskItem
from rewards.tasks import arithmetic, mode_flags

NOISES = ("language", "wrong_case", "quoted", "system", "contradictory")
"""What the levels are, in order."""

_FLAGS = ("/think", "/no_think")
_QUESTIONS = (
    "Berechne {}.", "Calcule {}.", "Calcula {}.", "Calcola {}.", "Bereken {}.", "Oblicz {}.", "Вычисли {}.",
    "计算 {}。", "計算してください：{}。", "احسب {}.", "{} 를 계산해 줘.", "{} का योग बताओ।",
)  # fmt: skip
_CASES = {
    "/think": ("/Think", "/THINK", "/ThInK"),
    "/no_think": ("/No_think", "/NO_THINK", "/No_Think", "/no_Think"),
}
_MENTIONS = (
    'My colleague always writes "{}" below his questions.', "The manual mentions '{}' somewhere.",
    "What does «{}» do? Never mind.", "I was told that `{}` is a flag.",
)  # fmt: skip
_PERSONAS = ("You are a calculator.", "You answer sums.", "Be polite and brief.")


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """A dialogue of up to three sums whose last message has one kind of noise; earlier turns carry random flags."""
    kind = NOISES[difficulty]
    messages: list[Message] = []
    if kind == "system":
        messages.append({"role": "system", "content": f"{rng.choice(_PERSONAS)} {rng.choice(_FLAGS)}"})
    for _ in range(rng.randint(0, 2) if kind != "system" else 0):
        question, total = _sum(rng)
        messages.append({"role": "user", "content": f"{question} {rng.choice(_FLAGS)}"})
        messages.append({"role": "assistant", "content": str(total)})
    question, total = _sum(rng)
    flag = rng.choice(_FLAGS)
    if kind == "language":
        terms = question.removeprefix("Compute ").removesuffix(".")
        content = f"{rng.choice(_QUESTIONS).format(terms)} {flag}"
    elif kind == "wrong_case":
        content = f"{question} {rng.choice(_CASES[flag])}"
    elif kind == "quoted":
        other = _FLAGS[1 - _FLAGS.index(flag)]
        content = f"{rng.choice(_MENTIONS).format(other)} {question} {flag}"
    elif kind == "contradictory":
        earlier = " ".join(rng.choice(_FLAGS) for _ in range(rng.randint(1, 3)))
        other = _FLAGS[1 - _FLAGS.index(flag)]
        content = f"{earlier} {question} {other} {flag}"
    elif rng.random() < 0.5:
        content = f"{question} {flag}"
    else:
        flag, content = str(messages[0]["content"]).split()[-1], question
    messages.append({"role": "user", "content": content})
    mode = "non_thinking" if flag == "/no_think" else "thinking"
    return TaskItem(tuple(messages), {"mode": mode, "answer": total}, domain=kind)


def _sum(rng: random.Random) -> tuple[str, int]:
    item = arithmetic.generate(rng, 0)
    return str(item.messages[-1]["content"]), int(item.reference["answer"])


def answer(item: TaskItem) -> str:
    """The bare sum."""
    return str(item.reference["answer"])


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """As `mode_flags` does."""
    return mode_flags.verify(request, parsed)


_THINKING = {"mode": "thinking", "answer": 7}
_PLAIN = {"mode": "non_thinking", "answer": 7}

TASK = Task(
    name="think_follow_noise",
    area="format_following",
    reward_type="rule",
    summary="the mode that noisy flags ask for",
    hack="visible reasoning after an empty block; a block of filler; no answer",
    guard="the checks of mode_flags",
    generate=generate,
    max_difficulty=len(NOISES) - 1,
    verify=verify,
    reference_keys=("mode",),
    answer=answer,
    known_good=(
        Example("<think>\n3+4=7\n</think>\n\n7", _THINKING, note="thinks and answers"),
        Example("<think>\n\n</think>\n\n7", _PLAIN, note="empty block, plain answer"),
    ),
    known_bad=(
        Example("<think>\n\n</think>\n\n7", _THINKING, note="empty block although thinking was asked for"),
        Example("<think>\n3+4=7\n</think>\n\n7", _PLAIN, note="thinks although it should not"),
        Example("<think>\n\n</think>\n\nLet me think. 3 and 4 make 7.", _PLAIN, note="leaked reasoning"),
        Example("<think>\n3+4=7", _THINKING, note="unfinished thinking"),
    ),
)
