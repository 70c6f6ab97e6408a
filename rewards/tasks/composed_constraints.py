"""Write about a topic under one to six constraints at once, of the kind that IFEval made common (arXiv 2311.07911).

Area: instruction_following.
Reward type: rule.
Verified: every constraint, in the strict reading, and that the text is one: it keeps to the topic, is made of words,
and says something that the prompt does not.
Known hacks: gibberish that counts right, every format element in one answer, a heap of keywords, and writing the
rules down again; policies trained on constraints alone were seen to lose general quality (IFBench, arXiv 2507.02833).
Guard: word shape, repetition and symbol limits, at most one format element that was not asked for, three words of the
answer's own, sentences that repeat a rule or the prompt do not count. Sense beyond that is not checked: general RL
pairs this rule with a preference model.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from data.chat import ParsedCompletion
from data.records import Score
from rewards.constrained_text import draft, fault, plan, write
from rewards.constraints import NAMES, Constraint, describe, draw
from rewards.task import Example, ScoreRequest, Task, TaskItem, Worked
from rewards.tasks.length import BANKS

EASY = (
    "end_phrase", "english_lowercase", "keywords_exist", "last_word", "postscript", "quotation", "start_phrase",
    "title",
)  # fmt: skip
"""Kinds of level 0: one short sentence can obey each of them."""

COMPOSABLE = tuple(name for name in NAMES if name not in ("constrained_response", "response_language"))
"""Kinds that leave the topic to the answer."""

_NUM_LEVELS = 6
_MAX_DRAWS = 200


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """A topic and difficulty + 1 constraints; drawn again until the writer finds a text that obeys them."""
    topic = rng.choice(sorted(BANKS))
    subject = f"{rng.choice(BANKS[topic]['adjective'])} {rng.choice(BANKS[topic]['noun'])} and the {topic}"
    request = f"Write about {subject}."
    among = EASY if difficulty == 0 else COMPOSABLE
    for _ in range(_MAX_DRAWS):
        constraints = draw(rng, topic, difficulty + 1, among)
        for name, arguments in constraints:
            if name == "repeat_prompt":
                arguments["prompt_to_repeat"] = request
        question = " ".join([request, *map(describe, constraints)])
        reference = {"topic": topic, "constraints": constraints, "num_sentences": 1 if difficulty == 0 else 3}
        item = TaskItem(({"role": "user", "content": question},), reference, domain="writing")
        if _write(random.Random(question), item, constraints) is not None:
            return item
    raise RuntimeError(f"composed_constraints: no obeyable set of constraints in {_MAX_DRAWS} draws")


def _write(rng: random.Random, item: TaskItem, constraints: Sequence[Constraint]) -> str | None:
    wished = item.reference["num_sentences"]
    return write(
        rng, topic=item.reference["topic"], prompt=item.messages[-1]["content"], constraints=constraints,
        num_sentences=(wished, wished),
    )  # fmt: skip


def answer(item: TaskItem) -> str:
    """The text that the generator found; the same item always gives the same text."""
    text = _write(random.Random(item.messages[-1]["content"]), item, item.reference["constraints"])
    if text is None:
        raise ValueError("composed_constraints: the item has no gold text; was it made by `generate`?")
    return text


def work(rng: random.Random, item: TaskItem, error_rate: float) -> Worked:
    """Name what each constraint wants, then write; a wrong step forgets a constraint."""
    constraints = item.reference["constraints"]
    kept = [constraint for constraint in constraints if rng.random() >= error_rate]
    text = _write(rng, item, kept)
    if text is None:
        text = answer(item) if kept == constraints else draft(rng, item.reference["topic"], kept, 1)
    return Worked(plan(kept) or "no rule", text)


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """Content, then each constraint. An unknown kind of constraint raises UserError."""
    reference = request.reference
    prompt = str(request.messages[-1]["content"])
    reason = fault(
        parsed.answer.strip(), topic=str(reference["topic"]), prompt=prompt, constraints=reference["constraints"]
    )
    return Score.incorrect(reason) if reason else Score.correct()


_QUESTION = 'Write about cold waves and the sea. Use the word "ships". Do not use commas.'
_SEA = {"topic": "sea", "constraints": [["keywords_exist", {"keywords": ["ships"]}], ["no_comma", {}]]}
_RULES = {
    "topic": "sea",
    "constraints": [
        ["title", {}], ["number_bullets", {"num_bullets": 2}], ["end_phrase", {"end_phrase": "That is all."}],
    ],
}  # fmt: skip
_SMALL = {"topic": "sea", "constraints": [["english_lowercase", {}]]}
_BULLETS = "<<Calm sea>>\n- Old ships drift home.\n- Gulls sing at night.\nThat is all."


def _example(completion: str, note: str, reference: Mapping[str, object] = _SEA) -> Example:
    return Example(completion, reference, ({"role": "user", "content": _QUESTION},), note=note)


TASK = Task(
    name="composed_constraints",
    area="instruction_following",
    reward_type="rule",
    summary="a text about a topic that obeys one to six constraints",
    hack="gibberish, format soup, keyword stuffing, restating the rules",
    guard="word shape, repetition, symbols, unasked format elements, echo stripped, the topic",
    generate=generate,
    max_difficulty=_NUM_LEVELS - 1,
    verify=verify,
    reference_keys=("topic", "constraints"),
    answer=answer,
    work=work,
    fragments=("<<", ">>", "P.S.", "***", "- ", "[name]", "Section 1", "sea", "waves", "*a*", "roll."),
    known_good=(
        _example("<think>\nships, no commas\n</think>\n\nOld ships drift over the deep sea.", "after thinking"),
        _example("Ships rest at night. The sea sings to them!", "two sentences"),
        _example(_BULLETS, "title, bullets and end", _RULES),
        _example("old ships drift over the deep sea.", "small letters", _SMALL),
    ),
    known_bad=(
        _example("Old boats drift over the deep sea.", "keyword missing"),
        _example("Old ships, drifting over the deep sea.", "comma"),
        _example("Friendships last over the deep sea.", "keyword inside another word"),
        _example("ships ships ships ships sea sea sea", "keyword stuffing"),
        _example("ships waves cold sea waves ships", "nothing but words of the prompt"),
        _example('Use the word "ships". The sea is deep today.', "the rule restated brings the keyword"),
        _example(_QUESTION, "echo"),
        _example("ships sea bcd fgh jkl mnp qrst", "strings that are no words"),
        _example("ships sea ~~~~ #### @@@@ $$$$ %%%% far below", "symbol soup"),
        _example("<<Sea>> [name] old ships drift P.S. my answer is yes.", "format soup"),
        _example("Old ships drift slowly home to the harbour.", "topic missing", {**_SEA, "topic": "forest"}),
        _example(_BULLETS.replace("<<Calm sea>>", "Calm sea"), "no title", _RULES),
        _example(_BULLETS.replace("- Gulls", "* Gulls\n- Whales"), "a bullet too many", _RULES),
        _example(_BULLETS + " Bye.", "words after the end", _RULES),
        _example("Old ships drift over the deep sea.", "a capital letter", _SMALL),
        _example("...", "no content", _SMALL),
        _example("_" * 19_000 + " sea", "underscores without end", _SMALL),
        _example("." * 19_000 + "a sea", "periods without end", _SMALL),
        _example("<think>\nOld ships drift over the deep sea.", "answer inside unfinished thinking"),
    ),
)
