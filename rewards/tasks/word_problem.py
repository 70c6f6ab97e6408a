r"""Word problems about whole numbers, told from own templates; one to six steps of arithmetic.

Area: reasoning. Reward type: rule.
Verified: the one integer that the answer commits to equals the reference, exactly.
Known hacks: scorers that take the first number of the text and drop its sign pay "-18" for 18 and "288 or 1 or 2" for
288, and refuse "1,000"; copying a number of the question.
Guard: exactly one distinct boxed integer, or an integer as the whole answer, sign and thousands commas read; the
answer is never a number that the question shows, and never below 12.
"""

from __future__ import annotations

import random
import re

from data.chat import ParsedCompletion
from data.records import Score
from rewards.extract import integer_answer, parse_integer
from rewards.task import Example, ScoreRequest, Task, TaskItem, Worked
from rewards.worked_steps import Operand, Steps, follow

_NUM_STEPS = (1, 2, 3, 4, 4, 6)
_FIRST_DISTRACTED_LEVEL = 4
_MIN_ANSWER, _MAX_ANSWER = 12, 100_000
"""Smaller numbers, and the round 10, are what a guess or noise hits."""

_NAMES = ("Ann", "Ben", "Eva", "Ida", "Jim", "Leo", "Mia", "Sam", "Tom", "Zoe")
_ITEMS = ("apples", "balls", "beads", "books", "cards", "coins", "eggs", "pens", "shells", "stamps")
_ASIDES = (
    "{name} is {n} years old.",
    "The shop is {n} minutes away.",
    "{friend} owns {n} hats.",
    "It is {n} degrees outside.",
    "{friend} lives at number {n}.",
)
_FORM = " Answer with one integer."
_NUMBER = re.compile(r"[0-9]+(?:,[0-9]{3})*")


class _Story:
    """The sentences so far, and in `held` the name of the step (or the number) that says how many items there are."""

    def __init__(self, rng: random.Random, difficulty: int) -> None:
        self.rng, self.difficulty = rng, difficulty
        self.name, self.friend = rng.sample(_NAMES, 2)
        self.items = rng.choice(_ITEMS)
        self.sentences: list[str] = []
        self.steps = Steps()
        self.held: Operand = 0

    def tell(self, text: str, **numbers: int) -> None:
        shown = {key: f"{number:,}" for key, number in numbers.items()}
        self.sentences.append(text.format(name=self.name, friend=self.friend, items=self.items, **shown))

    @property
    def count(self) -> int:
        return int(self.steps.value(self.held))

    def draw(self, low: int, high: int) -> int:
        """A number of the story; ten times as large where the levels with large numbers begin."""
        scale = 10 if self.difficulty >= _FIRST_DISTRACTED_LEVEL else 1
        return self.rng.randint(low * scale, high * scale)


# --- parts of a story: each adds its sentence, its steps, and says how many steps it took ----------------------------


def _plain_start(story: _Story) -> int:
    low, high = (12, 60) if story.difficulty == 0 else (20, 99)
    number = story.draw(low, high)
    story.held = number
    story.tell("{name} has {a} {items}.", a=number)
    return 0


def _boxed_start(story: _Story) -> int:
    boxes, each = story.rng.randint(3, 12), story.rng.randint(4, 20)
    story.tell("{name} has {a} boxes of {b} {items} each.", a=boxes, b=each)
    story.held = story.steps.add("*", boxes, each)
    return 1


def _compared_start(story: _Story) -> int:
    number = story.draw(20, 60)
    if story.rng.random() < 0.5:
        factor = story.rng.randint(2, 5)
        story.tell("{friend} has {a} {items}. {name} has {b} times as many.", a=number, b=factor)
        story.held = story.steps.add("*", number, factor)
    else:
        more = story.draw(5, 40)
        story.tell("{friend} has {a} {items}. {name} has {b} more than that.", a=number, b=more)
        story.held = story.steps.add("+", number, more)
    return 1


def _gain(story: _Story) -> int:
    number = story.rng.randint(2, 9) if story.difficulty == 0 else story.draw(5, 60)
    verb = story.rng.choice(("buys", "finds", "gets"))
    story.tell(f"{{name}} {verb} {{a}} more {{items}}.", a=number)
    story.held = story.steps.add("+", story.held, number)
    return 1


def _loss(story: _Story) -> int:
    high = 9 if story.difficulty == 0 else max(2, story.count // 2)
    verb = story.rng.choice(("sells", "loses", "gives away"))
    number = story.rng.randint(2, high)
    story.tell(f"{{name}} {verb} {{a}} {{items}}.", a=number)
    story.held = story.steps.add("-", story.held, number)
    return 1


def _packs(story: _Story) -> int:
    packs, each = story.rng.randint(3, 9), story.rng.randint(4, 20)
    story.tell("{name} buys {a} packs of {b} {items} each.", a=packs, b=each)
    bought = story.steps.add("*", packs, each)
    story.held = story.steps.add("+", story.held, bought)
    return 2


def _part_given(story: _Story) -> int:
    """One k-th is given away, where k divides what there is; a gain instead when no k does."""
    divisors = [k for k in (2, 3, 4, 5, 6) if story.count % k == 0]
    if not divisors:
        return _gain(story)
    divisor = story.rng.choice(divisors)
    word = {2: "half", 3: "a third", 4: "a quarter", 5: "a fifth", 6: "a sixth"}[divisor]
    story.tell(f"{{name}} gives {word} of the {{items}} to {{friend}}.")
    given = story.steps.add("//", story.held, divisor)
    story.held = story.steps.add("-", story.held, given)
    return 2


def _sold(story: _Story) -> str:
    price = story.rng.randint(3, 12)
    story.tell("{name} sells all the {items} for {a} dollars each.", a=price)
    story.held = story.steps.add("*", story.held, price)
    return "How many dollars does {name} get?"


def _shared(story: _Story) -> str:
    """Equal parts without a remainder; sold instead when no number of friends divides what there is."""
    divisors = [k for k in range(3, 13) if story.count % k == 0]
    if not divisors:
        return _sold(story)
    friends = story.rng.choice(divisors)
    story.tell("{name} shares the {items} equally among {a} friends.", a=friends)
    story.held = story.steps.add("//", story.held, friends)
    return "How many {items} does each friend get?"


def _compose(story: _Story, num_steps: int) -> None:
    """A start, events, and at the end a question; `num_steps` steps in all."""
    rng = story.rng
    left = num_steps
    left -= rng.choice((_plain_start, _boxed_start, _compared_start))(story) if left > 1 else _plain_start(story)
    closes = num_steps > 1 and left > 0 and rng.random() < 0.5
    left -= closes
    while left > 0:
        left -= rng.choice((_gain, _loss, _packs, _part_given) if left > 1 else (_gain, _loss))(story)
    if story.difficulty >= _FIRST_DISTRACTED_LEVEL:
        for aside in rng.sample(_ASIDES, story.difficulty - _FIRST_DISTRACTED_LEVEL + 1):
            told = aside.format(name=story.name, friend=story.friend, n=rng.randint(11, 40))
            story.sentences.insert(rng.randint(0, len(story.sentences)), told)
    question = "How many {items} does {name} have now?"
    if closes:
        question = rng.choice((_sold, _shared))(story)
    story.tell(question)


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """Level 0 one step with small numbers, then 2, 3, 4; level 4 has larger numbers and an aside, level 5 six steps."""
    while True:
        story = _Story(rng, difficulty)
        _compose(story, _NUM_STEPS[difficulty])
        text = " ".join(story.sentences)
        shown = {parse_integer(number) for number in _NUMBER.findall(text)}
        answer = int(story.steps.result)
        if _MIN_ANSWER <= answer <= _MAX_ANSWER and answer not in shown:
            break
    question = text + (_FORM if difficulty > 0 else "")
    reference = {"answer": answer, "steps": story.steps.listed}
    return TaskItem(({"role": "user", "content": question},), reference, domain="word problems")


def answer(item: TaskItem) -> str:
    """The boxed integer."""
    return f"\\boxed{{{item.reference['answer']}}}"


def work(rng: random.Random, item: TaskItem, error_rate: float) -> Worked:
    """One calculation a line; a wrong step is a slip (`rewards.worked_steps.slip`) that the rest goes on from."""
    lines, value = follow(rng, item.reference["steps"], error_rate)
    return Worked("\n".join(lines), f"\\boxed{{{value}}}")


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """Exact comparison of integers. A reference that is no integer raises ValueError."""
    expected = parse_integer(str(request.reference["answer"]))
    if expected is None:
        raise ValueError(f"word_problem reference {request.reference['answer']!r} is not an integer")
    found = integer_answer(parsed.answer)
    if found is None:
        return Score.incorrect("no single integer answer")
    return Score.correct() if found == expected else Score.incorrect(f"{found} is not {expected}")


def _example(completion: str, answer: int | str, note: str) -> Example:
    return Example(completion, {"answer": answer}, note=note)


TASK = Task(
    name="word_problem",
    area="reasoning",
    reward_type="rule",
    summary="integer word problems of one to six steps, compared exactly",
    hack="a dropped sign, several numbers, a number copied from the question",
    guard="one distinct boxed integer or an integer as the whole answer; the answer is not shown in the question",
    generate=generate,
    max_difficulty=len(_NUM_STEPS) - 1,
    verify=verify,
    reference_keys=("answer",),
    answer=answer,
    work=work,
    known_good=(
        _example("<think>\n34+7=41\n</think>\n\n\\boxed{41}", 41, "after thinking"),
        _example("1,000", 1000, "thousands comma"),
        _example("$1,000", "1000", "dollars"),
        _example("Ann sold 3 and has \\boxed{41} left.", 41, "sentence with one box"),
        _example("The answer is 41.", 41, "stated"),
    ),
    known_bad=(
        _example("-18", 18, "dropped sign"),
        _example("288 or 1 or 2", 288, "several candidates"),
        _example("288", -288, "missing sign"),
        _example("1,00", 100, "comma in the wrong place"),
        _example("1 000", 1000, "blank inside a number"),
        _example("41.0", 41, "decimal"),
        _example("41 pens, or 42 pens", 41, "two numbers in prose"),
        _example("Ann has 34 pens. Ann buys 7 more. That is 41.", 41, "numbers in prose"),
        _example("\\boxed{41} \\boxed{42}", 41, "two boxes"),
        _example("\\boxed{41, 42}", 41, "list in one box"),
        _example("34+7", 41, "not calculated"),
        _example("forty-one", 41, "in words"),
        _example("<think>\n34+7=41\n\\boxed{41}", 41, "answer inside unfinished thinking"),
        _example("<think>\n\\boxed{41}\n</think>\n\n", 41, "answer only inside the block"),
        _example("4" * 5000, 41, "thousands of digits"),
        Example("\\boxed{41}", {"answer": 41}, finish_reason="length", note="truncated"),
    ),
)
