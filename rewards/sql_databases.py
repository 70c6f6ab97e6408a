"""Small SQLite databases from a schema and a seed, and queries of the policy on them, which can read and nothing else.

    schema, seed -> open_database -> run_query -> rows        (QueryRefused: what the query asked for is not allowed)

A query is stopped by SQLite's own means: an authorizer that lets it read the schema's tables and call a list of pure
functions, limits on lengths and depths, and a number of steps after which it is interrupted. Time plays no part, so a
verdict is the same on a slow machine.
"""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

Schema = Sequence[Mapping[str, Any]]
"""Tables in order, each {"name", "columns": {column: how it is filled}}: a list of texts to choose from, [low, high]
for integers, "unique" for different names, or "of TABLE" for names of an earlier table."""

MAX_QUERY_CHARS = 1000
MAX_ROWS = 1000
_MAX_STEPS = 400_000
_STEPS_PER_CALL = 1_000
_MAX_REQUESTS = 2_000
"""Questions to the authorizer in one query. Common table expressions that use each other twice double at each level
while the query is compiled, where no steps are counted, but each copy asks."""

_NAMES = (
    "Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivo", "Jo", "Kai", "Lea", "Max", "Nia", "Otto", "Pia",
    "Quin", "Rosa", "Sam", "Tess", "Uma", "Vic", "Wim", "Xena", "Yara", "Zoe",
)  # fmt: skip

_FUNCTIONS = frozenset(
    {
        "abs", "avg", "ceil", "ceiling", "coalesce", "count", "dense_rank", "first_value", "floor", "group_concat",
        "ifnull", "iif", "instr", "lag", "last_value", "lead", "length", "like", "lower", "ltrim", "max", "min",
        "nth_value", "ntile", "nullif", "rank", "replace", "round", "row_number", "rtrim", "sign", "substr",
        "substring", "sum", "total", "trim", "typeof", "upper",
    }
)  # fmt: skip
"""Pure functions that make nothing larger than the limit on lengths; no random, no blobs, no formats, no files."""

_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 2_000,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 4 * MAX_QUERY_CHARS,
    sqlite3.SQLITE_LIMIT_COLUMN: 100,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 50,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 5,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 25_000,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 16,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 50,
    sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER: 0,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}


class QueryRefused(ValueError):
    """The query is wrong, forbidden or too expensive; the text says which."""


def open_database(schema: Schema, seed: int) -> sqlite3.Connection:
    """A database in memory that is a function of schema and seed alone, 10 to 16 rows a table."""
    rng = random.Random(f"sql/{seed}")
    connection = sqlite3.connect(":memory:")
    connection.execute("PRAGMA temp_store = MEMORY")
    names: dict[str, list[str]] = {}
    for table in schema:
        num_rows = rng.randint(10, 16)
        columns = {column: _fill(rng, kind, num_rows, names) for column, kind in table["columns"].items()}
        for column, kind in table["columns"].items():
            if kind == "unique":
                names[table["name"]] = columns[column]
        connection.execute(create_table(table))
        marks = ", ".join("?" * len(columns))
        rows = list(zip(*columns.values(), strict=True))
        connection.executemany(f"INSERT INTO {table['name']} VALUES ({marks})", rows)
    connection.commit()
    return connection


def _fill(rng: random.Random, kind: Any, num_rows: int, names: Mapping[str, list[str]]) -> list[Any]:
    if kind == "unique":
        return rng.sample(_NAMES, num_rows)
    if isinstance(kind, str):
        known = names[kind.removeprefix("of ")]
        few = rng.sample(known, len(known) * 2 // 3)  # so that some have no row
        return rng.choices(few, k=num_rows)
    if all(isinstance(value, int) for value in kind):
        return [rng.randint(*kind) for _ in range(num_rows)]
    return rng.choices(kind, k=num_rows)


def create_table(table: Mapping[str, Any]) -> str:
    """The CREATE TABLE statement of one table of a schema."""
    kinds = {
        column: "INTEGER" if not isinstance(kind, str) and isinstance(kind[0], int) else "TEXT"
        for column, kind in table["columns"].items()
    }
    return f"CREATE TABLE {table['name']} ({', '.join(f'{column} {kind}' for column, kind in kinds.items())})"


def run_query(connection: sqlite3.Connection, schema: Schema, query: str) -> list[tuple[Any, ...]]:
    """The rows of one SELECT statement; QueryRefused for everything else."""
    if len(query) > MAX_QUERY_CHARS:
        raise QueryRefused("the query is too long")
    tables = frozenset(table["name"] for table in schema)
    num_calls = num_requests = 0

    def is_over() -> bool:
        nonlocal num_calls
        num_calls += 1
        return num_calls * _STEPS_PER_CALL > _MAX_STEPS

    def authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        nonlocal num_requests
        num_requests += 1
        allowed = num_requests <= _MAX_REQUESTS and _is_allowed(tables, action, first or "", second or "")
        return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY

    for limit, value in _LIMITS.items():
        connection.setlimit(limit, value)
    connection.set_authorizer(authorize)
    connection.set_progress_handler(is_over, _STEPS_PER_CALL)
    try:
        cursor = connection.execute(query)
        if cursor.description is None:
            raise QueryRefused("the query returns no rows")
        rows = cursor.fetchmany(MAX_ROWS + 1)
    except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError, MemoryError) as error:
        raise QueryRefused(f"{type(error).__name__}: {error}"[:200]) from error
    if len(rows) > MAX_ROWS:
        raise QueryRefused("the query returns too many rows")
    return rows


def _is_allowed(tables: frozenset[str], action: int, first: str, second: str) -> bool:
    """Reads of the schema's tables and calls of listed functions; no recursion, no pragma, no write, no catalogue."""
    if action == sqlite3.SQLITE_READ:
        # COUNT(*) reads no column, and then a common table expression is named here like a table.
        return first in tables or (second == "" and not first.lower().startswith(("sqlite_", "pragma_")))
    if action == sqlite3.SQLITE_FUNCTION:
        return second.lower() in _FUNCTIONS
    return action == sqlite3.SQLITE_SELECT


def same_rows(found: Sequence[tuple[Any, ...]], expected: Sequence[tuple[Any, ...]], *, ordered: bool) -> bool:
    """Whether two results are equal: as lists when the order is asked for, else as multisets.

    Numbers are compared to six decimals, whole or not, because SUM and AVG differ in type alone; text is not a number.
    """
    left, right = ([tuple(map(_plain, row)) for row in rows] for rows in (found, expected))
    return left == right if ordered else Counter(left) == Counter(right)


def _plain(value: Any) -> Any:
    return round(float(value), 6) if isinstance(value, int | float) else value
