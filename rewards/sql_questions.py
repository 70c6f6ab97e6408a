"""Questions about small tables, each with a query that answers it and queries that nearly do.

    rng, level -> draw_question -> Question -> rewards.tasks.text_to_sql

Level 0 filters, counts or takes an extreme of one table. Level 1 sorts, groups and combines conditions, level 2 joins a
second table, level 3 needs a subquery.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

MAX_LEVEL = 3
_THEMES = (
    ("pets", "kind", ("cat", "dog", "hen"), ("age", "weight")),
    ("cars", "color", ("red", "blue", "black"), ("price", "speed")),
    ("towns", "land", ("north", "south", "west"), ("people", "area")),
    ("players", "team", ("lions", "bears", "hawks"), ("goals", "age")),
    ("books", "topic", ("art", "law", "sea"), ("pages", "price")),
    ("plants", "place", ("sun", "shade", "pond"), ("height", "price")),
    ("meals", "course", ("soup", "main", "sweet"), ("price", "salt")),
    ("songs", "style", ("rock", "folk", "jazz"), ("length", "plays")),
)
_COMPARISONS = (("above", ">", ">="), ("below", "<", "<="), ("equal to", "=", ">="))
_BUYERS = ("Al", "Bo", "Cy", "Di", "Ed")


@dataclass(frozen=True, slots=True)
class Question:
    """`text` asks, `query` answers, `slips` answer something else; `ordered` says that the order of rows counts."""

    schema: list[dict[str, Any]]
    text: str
    query: str
    slips: tuple[str, ...]
    thoughts: tuple[str, ...]
    ordered: bool = False


@dataclass(frozen=True, slots=True)
class _Theme:
    table: str
    kind: str
    kinds: tuple[str, ...]
    number: str
    other: str

    def schema(self, *, with_sales: bool) -> list[dict[str, Any]]:
        columns = {"name": "unique", self.kind: list(self.kinds), self.number: [1, 12], self.other: [1, 12]}
        sales = {"name": f"of {self.table}", "buyer": list(_BUYERS), "amount": [1, 9]}
        tables = [{"name": self.table, "columns": columns}]
        return [*tables, {"name": "sales", "columns": sales}] if with_sales else tables


def draw_question(rng: random.Random, level: int) -> Question:
    """A question of the level about a table drawn from eight."""
    table, kind, kinds, numbers = rng.choice(_THEMES)
    number, other = rng.sample(numbers, 2)
    theme = _Theme(table, kind, kinds, number, other)
    return rng.choice(_BY_LEVEL[level])(rng, theme)


def _filter(rng: random.Random, theme: _Theme) -> Question:
    word, operator, near = rng.choice(_COMPARISONS)
    value = rng.randint(2, 11)
    counts = rng.random() < 0.4
    what, asked = ("COUNT(*)", "how many have") if counts else ("name", "names with")
    query = f"SELECT {what} FROM {theme.table} WHERE {theme.number} {operator} {value}"
    slips = (
        query.replace(f" {operator} ", f" {near} "),
        query.replace(f" {operator} ", " < " if operator == ">" else " > "),
        query.replace(theme.number, theme.other),
        query.replace(f" {value}", f" {value + 1}"),
        f"SELECT {what} FROM {theme.table}",
    )
    return Question(
        theme.schema(with_sales=False),
        f"{asked} {theme.number} {word} {value}",
        query,
        slips,
        (f"take {what}", f"where {theme.number} {operator} {value}"),
    )


def _of_kind(rng: random.Random, theme: _Theme) -> Question:
    kind, wrong = rng.sample(theme.kinds, 2)
    counts = rng.random() < 0.4
    what, asked = ("COUNT(*)", "how many have") if counts else ("name", "names with")
    query = f"SELECT {what} FROM {theme.table} WHERE {theme.kind} = '{kind}'"
    slips = (
        query.replace(kind + "'", wrong + "'"),
        query.replace(" = ", " <> "),
        f"SELECT {what} FROM {theme.table}",
    )
    return Question(
        theme.schema(with_sales=False),
        f"{asked} {theme.kind} {kind}",
        query,
        slips,
        (f"take {what}", f"where {theme.kind} = '{kind}'"),
    )


def _extreme(rng: random.Random, theme: _Theme) -> Question:
    word, function = rng.choice((("largest", "MAX"), ("smallest", "MIN"), ("sum of", "SUM"), ("average", "AVG")))
    wrong = "MIN" if function == "MAX" else "MAX"
    query = f"SELECT {function}({theme.number}) FROM {theme.table}"
    slips = (query.replace(function, wrong), query.replace(theme.number, theme.other), query.replace(function, "COUNT"))
    return Question(theme.schema(with_sales=False), f"{word} {theme.number}", query, slips, (f"{word}: {function}",))


def _two_conditions(rng: random.Random, theme: _Theme) -> Question:
    low, high, kind = rng.randint(3, 6), rng.randint(6, 9), rng.choice(theme.kinds)
    joined, wrong = rng.sample(("and", "or"), 2)
    first, second = f"{theme.number} > {low}", f"{theme.other} < {high}"
    query = (
        f"SELECT name, {theme.number} FROM {theme.table} "
        f"WHERE ({first} {joined.upper()} {second}) AND {theme.kind} <> '{kind}'"
    )
    slips = (
        query.replace(f" {joined.upper()} {second}", f" {wrong.upper()} {second}"),
        query.replace("(", "").replace(")", ""),
        query.replace(" <> ", " = "),
        query.replace(" > ", " >= "),
    )
    text = (
        f"name and {theme.number} of those whose {theme.number} is above {low} {joined} whose {theme.other} is below "
        f"{high}, leaving out {theme.kind} {kind}"
    )
    return Question(theme.schema(with_sales=False), text, query, slips, (f"({first} {joined} {second}), not {kind}",))


def _sorted(rng: random.Random, theme: _Theme) -> Question:
    count = rng.randint(2, 5)
    query = f"SELECT name FROM {theme.table} ORDER BY {theme.number} DESC, name LIMIT {count}"
    slips = (
        query.replace(" DESC", ""),
        query.replace(f"LIMIT {count}", f"LIMIT {count + 1}"),
        query.replace(", name", ", name DESC"),
        query.replace(theme.number, theme.other),
    )
    text = f"the names of the {count} with the largest {theme.number}, largest first, equal ones by name"
    return Question(theme.schema(with_sales=False), text, query, slips, ("sort downwards, then by name",), ordered=True)


def _grouped(rng: random.Random, theme: _Theme) -> Question:
    word, function = rng.choice((("average", "AVG"), ("total", "SUM"), ("largest", "MAX")))
    value = rng.randint(2, 5)
    query = (
        f"SELECT {theme.kind}, {function}({theme.number}) FROM {theme.table} WHERE {theme.other} > {value} "
        f"GROUP BY {theme.kind}"
    )
    slips = (
        query.replace(f"WHERE {theme.other} > {value} ", ""),
        query.replace(function, "MIN"),
        query.replace(" > ", " >= "),
        query.replace(f"GROUP BY {theme.kind}", "GROUP BY name"),
    )
    text = f"each {theme.kind} with its {word} {theme.number}, counting only those with {theme.other} above {value}"
    return Question(theme.schema(with_sales=False), text, query, slips, (f"filter, then group by {theme.kind}",))


def _join(rng: random.Random, theme: _Theme) -> Question:
    value, kind = rng.randint(2, 6), rng.choice(theme.kinds)
    query = (
        f"SELECT t.name, s.buyer, s.amount FROM {theme.table} t JOIN sales s ON s.name = t.name "
        f"WHERE t.{theme.kind} = '{kind}' AND s.amount > {value}"
    )
    slips = (
        query.replace(" > ", " >= "),
        query.replace(f"t.{theme.kind} = '{kind}' AND ", ""),
        query.replace(" ON s.name = t.name", ""),
        query.replace("SELECT t.name", "SELECT DISTINCT t.name").replace(", s.amount F", " F"),
    )
    text = f"name, buyer and amount of each sale with amount above {value} of {theme.table} with {theme.kind} {kind}"
    return Question(theme.schema(with_sales=True), text, query, slips, ("join on name, then filter both",))


def _totals(rng: random.Random, theme: _Theme) -> Question:
    value = rng.randint(3, 8)
    query = (
        f"SELECT t.name, COALESCE(SUM(s.amount), 0) FROM {theme.table} t LEFT JOIN sales s ON s.name = t.name "
        f"WHERE t.{theme.number} > {value} GROUP BY t.name"
    )
    slips = (
        query.replace("LEFT JOIN", "JOIN"),
        query.replace("COALESCE(SUM(s.amount), 0)", "SUM(s.amount)"),
        query.replace(" > ", " >= "),
        query.replace("SUM(s.amount)", "COUNT(s.amount)"),
    )
    text = (
        f"each of the {theme.table} with {theme.number} above {value}: name and total amount of its sales (0 for none)"
    )
    return Question(theme.schema(with_sales=True), text, query, slips, ("left join, so that none is lost",))


def _having(rng: random.Random, theme: _Theme) -> Question:
    least = rng.randint(3, 5)
    query = (
        f"SELECT t.{theme.kind}, COUNT(*) FROM {theme.table} t JOIN sales s ON s.name = t.name "
        f"GROUP BY t.{theme.kind} HAVING COUNT(*) >= {least} ORDER BY COUNT(*) DESC, t.{theme.kind}"
    )
    slips = (
        query.replace(" >= ", " > "),
        query.replace(f" HAVING COUNT(*) >= {least}", ""),
        query.replace(" DESC", ""),
        query.replace("COUNT(*)", "COUNT(DISTINCT t.name)"),
    )
    text = (
        f"each {theme.kind} with at least {least} sales and how many it has, most sales first, equal ones by "
        f"{theme.kind}"
    )
    return Question(theme.schema(with_sales=True), text, query, slips, ("join, group, HAVING, sort",), ordered=True)


def _above_average(rng: random.Random, theme: _Theme) -> Question:
    word, operator, wrong = rng.choice((("above", ">", "<"), ("below", "<", ">")))
    query = (
        f"SELECT name FROM {theme.table} t WHERE {theme.number} {operator} "
        f"(SELECT AVG({theme.number}) FROM {theme.table} u WHERE u.{theme.kind} = t.{theme.kind})"
    )
    slips = (
        query.replace(f" WHERE u.{theme.kind} = t.{theme.kind}", ""),
        query.replace(f" {operator} ", f" {wrong} "),
        query.replace("AVG", "MAX" if operator == "<" else "MIN"),
    )
    text = f"names whose {theme.number} is {word} the average {theme.number} of their own {theme.kind}"
    return Question(theme.schema(with_sales=True), text, query, slips, ("compare with a correlated average",))


def _without_sale(rng: random.Random, theme: _Theme) -> Question:
    value = rng.randint(2, 6)
    query = (
        f"SELECT name FROM {theme.table} t WHERE NOT EXISTS "
        f"(SELECT 1 FROM sales s WHERE s.name = t.name AND s.amount > {value})"
    )
    slips = (
        query.replace("NOT EXISTS", "EXISTS"),
        query.replace(" > ", " >= "),
        query.replace(f" AND s.amount > {value}", ""),
    )
    text = f"names of {theme.table} without any sale of an amount above {value}"
    return Question(theme.schema(with_sales=True), text, query, slips, ("no row in a subquery",))


def _best_of_kind(rng: random.Random, theme: _Theme) -> Question:
    word, order, wrong = rng.choice((("largest", "MAX", "MIN"), ("smallest", "MIN", "MAX")))
    query = (
        f"SELECT {theme.kind}, name, {theme.number} FROM {theme.table} t WHERE {theme.number} = "
        f"(SELECT {order}({theme.number}) FROM {theme.table} u WHERE u.{theme.kind} = t.{theme.kind})"
    )
    slips = (
        query.replace(order, wrong),
        query.replace(f" WHERE u.{theme.kind} = t.{theme.kind}", ""),
        f"SELECT {theme.kind}, name, {theme.number} FROM {theme.table} ORDER BY {theme.number} DESC LIMIT 3",
    )
    text = (
        f"{theme.kind}, name and {theme.number} of those with the {word} {theme.number} of their {theme.kind}, "
        "all of equals"
    )
    return Question(theme.schema(with_sales=True), text, query, slips, ("compare with the best of the same kind",))


_BY_LEVEL = (
    (_filter, _filter, _filter, _of_kind, _extreme),
    (_two_conditions, _sorted, _grouped),
    (_join, _totals, _having),
    (_above_average, _without_sale, _best_of_kind),
)
