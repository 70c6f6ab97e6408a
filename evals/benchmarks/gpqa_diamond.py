"""GPQA-Diamond: 198 questions of graduate-level science (arXiv 2311.12022), four options each.

Fields of Idavidrein/gpqa (`gpqa_diamond.csv`): `Question`, `Correct Answer`, `Incorrect Answer 1` to `3`; `Record ID`
and `High-level domain` where they are there. The file always names the right answer first, so the options are shuffled:
by a seed made of the question alone. The place of the right answer then says nothing, is the same in every run and for
every sample of a prompt, and does not hang on the order of rows. (simple-evals shuffles by row and repetition instead.)
The report samples 10 answers a question and gives the mean (section 4.6).

The authors ask that no question be put on the web in plain text: keep rollouts of this benchmark to yourself.
"""

from __future__ import annotations

import random
from pathlib import Path

from data.records import Prompt
from evals.benchmarks.benchmark import LETTERS, Benchmark, choice_question, row_uid
from evals.benchmarks.rows import Row, table_rows

RIGHT = "Correct Answer"
WRONG = ("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")


def rows(path: Path) -> list[Row]:
    """The diamond set alone; a folder holds the larger sets beside it."""
    return list(table_rows(path, holding="diamond"))


def shuffled_places(question: str, num_options: int) -> list[int]:
    """Which option stands at each place; a function of the question alone."""
    places = list(range(num_options))
    random.Random(f"gpqa/{question.strip()}").shuffle(places)
    return places


def prompt(row: Row) -> Prompt:
    """The question, its options shuffled by its own seed, and Qwen3's request for a letter."""
    question = row.text("Question")
    options = [row.text(RIGHT), *(row.text(name) for name in WRONG)]
    places = shuffled_places(question, len(options))
    return Prompt(
        uid=row_uid("gpqa_diamond", question),
        task="multiple_choice",
        messages=choice_question(question, [options[place] for place in places]),
        reference={"answer": LETTERS[places.index(0)]},
        domain=row.text("High-level domain") if row.has("High-level domain") else "",
    )


BENCHMARK = Benchmark(
    name="gpqa_diamond",
    title="GPQA-Diamond",
    dataset="Idavidrein/gpqa",
    licence="CC BY 4.0; gated, and the authors ask not to publish questions in plain text",
    task="multiple_choice",
    rows=rows,
    prompt=prompt,
    expected_rows=(198,),
    num_samples=10,
)
