"""Databases from seeds, and what a query may not do to them."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any

import pytest

from rewards.sql_databases import MAX_ROWS, QueryRefused, create_table, open_database, run_query, same_rows

SCHEMA = [
    {"name": "pets", "columns": {"name": "unique", "kind": ["cat", "dog"], "age": [1, 9]}},
    {"name": "sales", "columns": {"name": "of pets", "amount": [1, 5]}},
]


def _run(query: str, seed: int = 1) -> list[tuple[Any, ...]]:
    with closing(open_database(SCHEMA, seed)) as connection:
        return run_query(connection, SCHEMA, query)


def test_a_database_is_a_function_of_its_seed() -> None:
    everything = "SELECT * FROM pets"
    assert _run(everything, 1) == _run(everything, 1)
    assert _run(everything, 1) != _run(everything, 2)
    assert create_table(SCHEMA[0]) == "CREATE TABLE pets (name TEXT, kind TEXT, age INTEGER)"


def test_columns_are_filled_as_the_schema_says() -> None:
    pets = _run("SELECT * FROM pets")
    assert 10 <= len(pets) <= 16
    assert len({name for name, _, _ in pets}) == len(pets)
    assert {kind for _, kind, _ in pets} == {"cat", "dog"}
    assert all(1 <= age <= 9 for _, _, age in pets)
    assert {name for (name,) in _run("SELECT name FROM sales")} < {name for name, _, _ in pets}


@pytest.mark.parametrize(
    "query",
    [
        "SELECT COUNT(*) FROM pets",
        "SELECT p.name FROM PETS p LEFT JOIN sales s USING (name) GROUP BY 1 HAVING SUM(amount) > 2 ORDER BY 1",
        "WITH x AS (SELECT age FROM pets) SELECT COUNT(*), AVG(age) FROM x",
        "SELECT name, RANK() OVER (PARTITION BY kind ORDER BY age) FROM pets",
        "SELECT name FROM pets WHERE name LIKE 'A%' UNION SELECT name FROM sales",
        "SELECT CASE WHEN age > 5 THEN 'old' ELSE 'young' END, ROUND(age / 2.0, 1), UPPER(kind) || '!' FROM pets",
        "SELECT a.name FROM pets a, pets b, pets c WHERE a.age < b.age AND b.age < c.age LIMIT 20",
    ],
)
def test_what_questions_need_is_allowed(query: str) -> None:
    assert _run(query)


DOUBLING = ", ".join(
    f"{new} AS (SELECT 1 FROM {old} x, {old} y)" for old, new in zip("abcdefghijklmn", "bcdefghijklmno", strict=True)
)
FORBIDDEN = {
    "drop": "DROP TABLE pets",
    "delete": "DELETE FROM pets",
    "insert": "INSERT INTO pets VALUES ('a', 'b', 1)",
    "returning": "DELETE FROM pets RETURNING name",
    "update": "UPDATE pets SET age = 1",
    "create": "CREATE TABLE x (a)",
    "temporary view": "CREATE TEMP VIEW x AS SELECT 1",
    "stacked": "SELECT 1; DROP TABLE pets",
    "two selects": "SELECT 1; SELECT 2",
    "pragma": "PRAGMA table_info(pets)",
    "pragma function": "SELECT * FROM pragma_table_info('pets')",
    "attach": "ATTACH DATABASE ':memory:' AS x",
    "detach": "DETACH DATABASE main",
    "vacuum": "VACUUM INTO '/tmp/x'",
    "transaction": "BEGIN",
    "catalogue": "SELECT * FROM sqlite_master",
    "catalogue count": "SELECT COUNT(*) FROM sqlite_schema",
    "json table": "SELECT * FROM json_each('[1]')",
    "recursion": "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT * FROM r LIMIT 5",
    "random": "SELECT RANDOM()",
    "clock": "SELECT CURRENT_TIMESTAMP",
    "extension": "SELECT load_extension('x')",
    "file": "SELECT readfile('/etc/passwd')",
    "huge blob": "SELECT zeroblob(1000000000)",
    "huge text": "SELECT replace(replace('aaaaaaaaaa', 'a', 'bbbbbbbbbbbbbbbb'), 'b', 'cccccccccccccccc')",
    "huge printf": "SELECT printf('%1000000d', 1)",
    "parameter": "SELECT ?",
    "deep": "SELECT " + "(" * 300 + "1" + ")" * 300,
    "long": "SELECT 1 -- " + "x" * 2000,
    "null byte": "SELECT 1\x00",
    "surrogate": "SELECT '\ud800'",
    "large number of rows": "SELECT 1 FROM pets a, pets b, pets c, pets d",
    "cross join": "SELECT COUNT(*) FROM " + ", ".join(f"pets p{n}" for n in range(12)),
    "sorted cross join": "SELECT a.name FROM pets a, pets b, pets c, pets d, pets e, pets f ORDER BY 1 LIMIT 1",
    "doubling": f"WITH a AS (SELECT 1 FROM pets), {DOUBLING} SELECT COUNT(*) FROM o",
    "unions": " UNION ALL ".join(["SELECT 1"] * 40),
    "empty": "",
    "comment": "-- nothing",
    "no SQL": "hello",
}  # fmt: skip


@pytest.mark.parametrize("name", FORBIDDEN)
def test_everything_else_is_refused_soon(name: str) -> None:
    started = time.process_time()
    with pytest.raises(QueryRefused):
        _run(FORBIDDEN[name])
    assert time.process_time() - started < 2


def test_rows_are_compared_as_asked() -> None:
    assert same_rows([(1, "a"), (2, "b")], [(2, "b"), (1, "a")], ordered=False)
    assert not same_rows([(1, "a"), (2, "b")], [(2, "b"), (1, "a")], ordered=True)
    assert not same_rows([(1,), (1,)], [(1,)], ordered=False)
    assert same_rows([(5,)], [(5.0,)], ordered=True)
    assert same_rows([(1 / 3,)], [(0.33333333,)], ordered=True)
    for found, expected in (("5", 5), (None, 0), (None, ""), ("a", "A"), (0.3333, 1 / 3)):
        assert not same_rows([(found,)], [(expected,)], ordered=True)
    assert MAX_ROWS >= 16 * 16
