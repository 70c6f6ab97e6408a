r"""Answer a question about small tables with one SQL query.

Area: specialised. Reward type: rule.
Verified: the query's rows equal those of the reference query on two hidden databases of different content.
Known hacks: a query that returns constants, statements beside the query (PRAGMA, ATTACH, DROP, several at once),
reading the catalogue, endless recursion, blobs of a gigabyte.
Guard: two databases whose right answers differ, and on which nearly right queries are wrong; one SELECT that may read
the schema's tables alone, under SQLite's own limits; rows in order where the question asks for one, else as a multiset.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from data.chat import ParsedCompletion
from data.records import Score
from rewards.code_answers import extract_code
from rewards.sql_databases import (
    MAX_QUERY_CHARS,
    QueryRefused,
    Schema,
    create_table,
    open_database,
    run_query,
    same_rows,
)
from rewards.sql_questions import MAX_LEVEL, Question, draw_question
from rewards.task import Example, ScoreRequest, Task, TaskItem, Worked

_START = re.compile(r"(?:SELECT|WITH)\b", re.IGNORECASE)
_NUM_SEEDS_TRIED = 60


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """A question of the level, and two databases that tell its answer from constants and from nearly right queries."""
    while True:
        question = draw_question(rng, difficulty)
        seeds = _telling_seeds(rng, question)
        if seeds is not None:
            break
    table = question.schema[0]
    text = f"SQL for {table['name']}({', '.join(table['columns'])}): {question.text}."
    if difficulty > 0:
        statements = ";\n".join(create_table(table) for table in question.schema)
        text = (
            f"{statements};\n\nWrite one SQLite query for this: {question.text}. "
            "Reply with the query alone or in one fenced block."
        )
    reference = {
        "schema": question.schema, "seeds": seeds, "query": question.query, "ordered": question.ordered,
        "slips": list(question.slips), "thoughts": list(question.thoughts),
    }  # fmt: skip
    return TaskItem(({"role": "user", "content": text},), reference, domain="sql")


def _telling_seeds(rng: random.Random, question: Question) -> list[int] | None:
    """Two seeds whose right answers differ and are not empty, each slip being wrong on one; None when none is found."""
    for _ in range(_NUM_SEEDS_TRIED):
        seeds = [rng.randrange(10**6) for _ in range(2)]
        queries = (question.query, *question.slips)
        (first, *first_slips), (second, *second_slips) = (_results(question.schema, seed, queries) for seed in seeds)
        if not first or not second or same_rows(first, second, ordered=False):
            continue
        if not any(
            same_rows(one, first, ordered=question.ordered) and same_rows(two, second, ordered=question.ordered)
            for one, two in zip(first_slips, second_slips, strict=True)
        ):
            return seeds
    return None


def _results(schema: Schema, seed: int, queries: Sequence[str]) -> list[list[tuple[Any, ...]]]:
    with closing(open_database(schema, seed)) as connection:
        return [run_query(connection, schema, query) for query in queries]


def answer(item: TaskItem) -> str:
    """The reference query."""
    return str(item.reference["query"])


def work(rng: random.Random, item: TaskItem, error_rate: float) -> Worked:
    """What is taken and from where, in a line or two; a wrong step leads to a query that is nearly right."""
    reference = item.reference
    query = rng.choice(reference["slips"]) if rng.random() < error_rate else reference["query"]
    return Worked("\n".join(reference["thoughts"]), query)


def _query_of(answer: str) -> str | None:
    code = extract_code(answer.replace("```sql", "```", 1))
    return None if code is None else code.strip().removesuffix(";").rstrip()


def quick_check(request: ScoreRequest, parsed: ParsedCompletion) -> Score | None:
    """Refuse what is no query without opening a database."""
    query = _query_of(parsed.answer)
    if query is None or not _START.match(query):
        return Score.incorrect("not one SELECT query")
    return Score.incorrect("the query is too long") if len(query) > MAX_QUERY_CHARS else None


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """Both databases, one after the other. QueryRefused for a reference query that does not run."""
    refused = quick_check(request, parsed)
    if refused is not None:
        return refused
    query, reference = _query_of(parsed.answer), request.reference
    assert query is not None
    for number, seed in enumerate(reference["seeds"], 1):
        (expected,) = _results(reference["schema"], seed, (reference["query"],))
        try:
            (found,) = _results(reference["schema"], seed, (query,))
        except QueryRefused as error:
            return Score.incorrect(str(error))
        if not same_rows(found, expected, ordered=bool(reference["ordered"])):
            return Score.incorrect(f"other rows on database {number}")
    return Score.correct()


_REFERENCE = {
    "schema": [{"name": "pets", "columns": {"name": "unique", "kind": ["cat", "dog"], "age": [1, 12]}}],
    "seeds": [1, 2],
    "query": "SELECT name FROM pets WHERE age > 5",
    "ordered": False,
}
_COUNT = {**_REFERENCE, "query": "SELECT COUNT(*) FROM pets WHERE age > 5"}
_SORTED = {**_REFERENCE, "query": "SELECT name FROM pets ORDER BY age DESC, name LIMIT 3", "ordered": True}
_RECURSION = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT COUNT(*) FROM r"


def _example(completion: str, note: str, reference: dict[str, Any] = _REFERENCE) -> Example:
    return Example(completion, reference, note=note)


TASK = Task(
    name="text_to_sql",
    area="specialised",
    reward_type="rule",
    summary="one SQL query, run on two hidden databases",
    hack="constants, several statements, PRAGMA and ATTACH, the catalogue, endless recursion, huge blobs",
    guard="two databases with different answers; one SELECT under an authorizer and SQLite's limits",
    generate=generate,
    max_difficulty=MAX_LEVEL,
    verify=verify,
    reference_keys=("schema", "seeds", "query", "ordered"),
    answer=answer,
    work=work,
    in_worker=True,
    quick_check=quick_check,
    fragments=("SELECT ", "name", " FROM pets", " WHERE age > 5", " JOIN ", "COUNT(*)", ";", "WITH x AS (", "'", "--"),
    known_good=(
        _example("<think>\nage > 5\n</think>\n\nSELECT name FROM pets WHERE age > 5", "after thinking"),
        _example("```sql\nselect p.name\nfrom pets as p\nwhere not p.age <= 5;\n```", "in a fence, written otherwise"),
        _example("SELECT name FROM pets WHERE age > 5 ORDER BY name -- sorted", "an order that was not asked for"),
        _example("WITH old AS (SELECT * FROM pets WHERE age > 5) SELECT name FROM old", "common table expression"),
        _example("SELECT SUM(age > 5) FROM pets", "another way to count", _COUNT),
    ),
    known_bad=(
        _example("SELECT name FROM pets WHERE age >= 5", "nearly right"),
        _example("SELECT name, age FROM pets WHERE age > 5", "a column too many"),
        _example("SELECT DISTINCT kind FROM pets WHERE age > 5", "other column"),
        _example("SELECT 7", "constant", _COUNT),
        _example("VALUES (7)", "constant without SELECT", _COUNT),
        _example("SELECT name FROM pets ORDER BY age, name LIMIT 3", "wrong order", _SORTED),
        _example("SELECT name FROM pets WHERE age > 5; DROP TABLE pets", "two statements"),
        _example("DROP TABLE pets", "no query"),
        _example("PRAGMA table_info(pets)", "pragma"),
        _example("SELECT name FROM pragma_table_info('pets')", "pragma in a query"),
        _example("ATTACH DATABASE '/tmp/x' AS x", "attach"),
        _example("SELECT sql FROM sqlite_master", "catalogue"),
        _example("SELECT load_extension('x')", "extension"),
        _example(_RECURSION, "recursion without end", _COUNT),
        _example("SELECT hex(zeroblob(1000000000))", "blob of a gigabyte"),
        _example("SELECT COUNT(*) FROM " + ", ".join(f"pets p{i}" for i in range(20)), "join of twenty", _COUNT),
        _example("SELECT name FROM pets WHERE " + "(" * 400 + "1" + ")" * 400, "deep brackets"),
        _example("EXPLAIN SELECT name FROM pets WHERE age > 5", "explain"),
        _example("SELECT name FROM pets WHERE age > 5 \\boxed{1}", "a box beside it"),
        _example("I would use SELECT name FROM pets WHERE age > 5", "in a sentence"),
        _example("```\nSELECT 1\n```\n```\nSELECT name FROM pets WHERE age > 5\n```", "two fences"),
        _example("<think>\nSELECT name FROM pets WHERE age > 5", "answer inside unfinished thinking"),
    ),
)
