"""The kinds of function that `rewards.function_specs` fills in: branches, text and lists, two steps, recursion.

Each has the text of the task, its parameters, a solution, the slips that people make in it, one line of reasoning and
how hidden inputs are drawn. `SELF(` in a solution is a call of the function itself, `{a}` a drawn number.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rewards.function_inputs import (
    WORDS,
    brackets,
    integer,
    intervals,
    items,
    letters,
    mirrored,
    nested,
    numbers,
    pair,
    repeats,
    sentence,
    two_texts,
    words,
)


@dataclass(frozen=True, slots=True)
class Template:
    """One kind of function; `slips` are (right, wrong) pieces of its code."""

    text: str
    parameters: str
    code: str
    slips: tuple[tuple[str, str], ...]
    thought: str
    draw_input: Callable[[random.Random], tuple[Any, ...]]
    draw_numbers: Callable[[random.Random], dict[str, Any]] = lambda rng: {}


def _small(*keys: str) -> Callable[[random.Random], dict[str, Any]]:
    return lambda rng: dict(zip(keys, rng.sample(range(2, 8), len(keys)), strict=True))


def _ordered(rng: random.Random) -> dict[str, Any]:
    low = rng.randint(-8, 4)
    return {"a": low, "b": low + rng.randint(3, 9)}


_BRANCHES = (
    Template(
        "n/{a} rounded down if n is divisible by {a}, and {b} times n plus {c} otherwise",
        "n",
        "    if n % {a} == 0:\n        return n // {a}\n    return {b} * n + {c}",
        (("== 0", "!= 0"), ("{b} * n + {c}", "{b} * (n + {c})"), ("n // {a}", "n - {a}"), ("+ {c}", "- {c}")),
        "test the remainder by {a}, then one of two formulas",
        integer(-30, 60),
        _small("a", "b", "c"),
    ),
    Template(
        "n limited to the range from {a} to {b}",
        "n",
        "    return max({a}, min({b}, n))",
        (("max({a}, min(", "min({a}, max("), ("{b}", "{b} - 1"), ("max({a}", "max({a} + 1")),
        "take the smaller of {b} and n, then the larger of {a} and that",
        integer(-20, 25),
        _ordered,
    ),
    Template(
        "{a} times the larger of the two numbers minus the smaller",
        "a, b",
        "    return {a} * max(a, b) - min(a, b)",
        (("max(a, b) -", "min(a, b) -"), ("- min", "+ min"), ("{a} *", "{b} *")),
        "max times {a}, less min",
        pair,
        _small("a", "b"),
    ),
    Template(
        "the sum of the whole numbers from 1 to n that are divisible by {a} or by {b} (0 for n below 1)",
        "n",
        "    return sum(i for i in range(1, n + 1) if i % {a} == 0 or i % {b} == 0)",
        (("n + 1", "n"), (" or ", " and "), ("sum(i", "sum(1"), ("i % {b} == 0", "i % {b} == 1")),
        "run over 1 to n and keep multiples of {a} or {b}",
        integer(-3, 40),
        _small("a", "b"),
    ),
    Template(
        'the text "low" for n below {a}, "high" for n above {b}, and "mid" otherwise',
        "n",
        '    if n < {a}:\n        return "low"\n    return "high" if n > {b} else "mid"',
        (("n < {a}", "n > {a}"), ("n > {b}", "n > {a}"), ('"high" if', '"mid" if'), ('"low"', '"Low"')),
        "compare with {a}, then with {b}",
        integer(-15, 20),
        _ordered,
    ),
    Template(
        "the absolute difference of the two numbers, plus {a} when their sum is odd",
        "a, b",
        "    return abs(a - b) + (a + b) % 2 * {a}",
        (("abs(a - b)", "(a - b)"), ("(a + b) % 2", "(a + b + 1) % 2"), ("a - b", "a + b")),
        "the sum is odd when its remainder by 2 is 1",
        pair,
        _small("a"),
    ),
)

_TEXT_AND_LISTS = (
    Template(
        "the sentence with every word reversed, words staying in order and joined by one blank",
        "s",
        '    return " ".join(word[::-1] for word in s.split())',
        (
            ("word[::-1] for word in s.split()", "word for word in s.split()[::-1]"),
            ('" ".join', '"".join'),
            ("word[::-1]", "word[1:]"),
        ),
        "split, reverse each, join",
        sentence,
    ),
    Template(
        "how many characters of the text are among the letters {v}",
        "s",
        '    return sum(1 for c in s if c in "{v}")',
        (('"{v}"', '"{v}"[1:]'), (" if c in ", " if c not in "), ("sum(1", "len(s) - sum(1")),
        "count with a test of each",
        letters,
        lambda rng: {"v": "".join(sorted(rng.sample("abcdexyz", 3)))},
    ),
    Template(
        "the text with each letter moved {a} places on in the alphabet, z being followed by a",
        "s",
        '    return "".join(chr((ord(c) - 97 + {a}) % 26 + 97) for c in s)',
        ((" % 26", ""), ("+ {a}", "- {a}"), ("+ {a})", "+ {a} + 1)")),
        "letters as 0 to 25, modulo 26",
        letters,
        _small("a"),
    ),
    Template(
        "the list rotated to the left by {a} places",
        "xs",
        "    k = {a} % len(xs) if xs else 0\n    return xs[k:] + xs[:k]",
        (("xs[k:] + xs[:k]", "xs[:k] + xs[k:]"), ("xs[k:] + xs[:k]", "xs[-k:] + xs[:-k]"), (" % len(xs)", "")),
        "cut at {a} modulo the length",
        numbers,
        _small("a"),
    ),
    Template(
        "the running sums of the list, starting from {a}",
        "xs",
        "    total, result = {a}, []\n    for x in xs:\n        total += x\n        result.append(total)\n"
        "    return result",
        (("total += x", "total = x"), ("append(total)", "append(x)"), ("total += x", "total -= x")),
        "keep a total and note it after each",
        numbers,
        _small("a"),
    ),
    Template(
        "the list without repeats, the first of each kept, in order",
        "xs",
        "    result = []\n    for x in xs:\n        if x not in result:\n            result.append(x)\n"
        "    return result",
        (
            ("x not in result", "x in result"),
            ("x not in result", "x not in result[-1:]"),
            ("return result", "return sorted(result)"),
        ),
        "append what is new",
        repeats,
    ),
    Template(
        "the list cut into lists of {a}, the last of which may be shorter",
        "xs",
        "    return [xs[i:i + {a}] for i in range(0, len(xs), {a})]",
        (("i + {a}", "i + {a} - 1"), ("len(xs), {a})", "len(xs))"), ("range(0", "range(1")),
        "step by {a} and slice",
        numbers,
        _small("a"),
    ),
    Template(
        "the sum of the squares of the numbers in the list that are not divisible by {a}",
        "xs",
        "    return sum(x * x for x in xs if x % {a} != 0)",
        (("!= 0", "== 0"), ("x * x", "x + x"), ("x * x for", "x for")),
        "filter, square, sum",
        numbers,
        _small("a"),
    ),
)

_TWO_STEPS = (
    Template(
        "a dict from each word of the list to how often it occurs, only for words that occur at least {a} times",
        "words",
        "    counts = {}\n    for word in words:\n        counts[word] = counts.get(word, 0) + 1\n"
        "    return {word: n for word, n in counts.items() if n >= {a}}",
        (("n >= {a}", "n > {a}"), ("+ 1", "+ 2"), ("get(word, 0)", "get(word, 1)")),
        "count, then filter",
        words,
        lambda rng: {"a": rng.choice((1, 2))},
    ),
    Template(
        "the letter that occurs most often in the text, the first in the alphabet of several; "
        "the empty text for no letters",
        "s",
        '    return min(set(s), key=lambda c: (-s.count(c), c)) if s else ""',
        (("-s.count(c), c", "s.count(c), c"), ("-s.count(c), c", "-s.count(c), -ord(c)"), ("min(set(s)", "max(set(s)")),
        "smallest by negative count, then letter",
        letters,
    ),
    Template(
        "the {a} largest different numbers of the list, largest first (all of them if there are fewer)",
        "xs",
        "    return sorted(set(xs), reverse=True)[:{a}]",
        (("reverse=True", "reverse=False"), ("sorted(set(xs)", "sorted(list(xs)"), ("[:{a}]", "[-{a}:]")),
        "no repeats, sort downwards, cut",
        repeats,
        lambda rng: {"a": rng.choice((2, 3))},
    ),
    Template(
        "the numbers of the list greater than {a}, each multiplied by {b}, sorted from small to large",
        "xs",
        "    return sorted(x * {b} for x in xs if x > {a})",
        (
            ("x > {a}", "x >= {a} - 2"),
            ("x * {b} for", "x + {b} for"),
            ("sorted(x * {b} for x in xs if x > {a})", "[x * {b} for x in xs if x > {a}]"),
        ),
        "filter, multiply, sort",
        numbers,
        _small("a", "b"),
    ),
    Template(
        "the words of the list grouped by length: a dict from the length as text to the sorted list of words",
        "words",
        "    groups = {}\n    for word in sorted(words):\n        groups.setdefault(str(len(word)), []).append(word)\n"
        "    return groups",
        (("sorted(words)", "words[::-1]"), ("str(len(word))", "len(word)"), ("append(word)", "append(word[0])")),
        "sort first, then append to groups",
        lambda rng: (rng.choices(WORDS, k=rng.randint(0, 7)),),
    ),
    Template(
        "the length of the longest run of equal neighbours in the list (0 for an empty list)",
        "xs",
        "    best = run = 0\n    for i, x in enumerate(xs):\n        run = run + 1 if i and xs[i - 1] == x else 1\n"
        "        best = max(best, run)\n    return best",
        (("else 1", "else 0"), ("best = max(best, run)", "best = run"), ("xs[i - 1] == x", "xs[i - 1] <= x")),
        "count the run, keep the best",
        repeats,
    ),
    Template(
        "the text compressed: each run of equal letters as the letter followed by the length of the run",
        "s",
        '    result, i = "", 0\n    while i < len(s):\n        j = i\n        while j < len(s) and s[j] == s[i]:\n'
        "            j += 1\n        result += s[i] + str(j - i)\n        i = j\n    return result",
        (("str(j - i)", "str(j)"), ("str(j - i)", "str(j - i - 1)"), ("s[i] + str", "s[0] + str")),
        "find the end of each run",
        lambda rng: ("".join(c * rng.randint(1, 4) for c in rng.choices("abc", k=rng.randint(0, 4))),),
    ),
    Template(
        "True if the text reads the same backwards once its letters x are taken out, and False otherwise",
        "s",
        '    kept = s.replace("x", "")\n    return kept == kept[::-1]',
        (("kept == kept[::-1]", "s == s[::-1]"), ("==", "!="), ('"x"', '"a"')),
        "take out, then compare with the reverse",
        lambda rng: (mirrored(rng),),
    ),
)


_RECURSION = (
    Template(
        "term n of the sequence with f(0) = {a}, f(1) = {b} and f(n) = {c} f(n-1) + f(n-2)",
        "n",
        "    a, b = {a}, {b}\n    for _ in range(n):\n        a, b = b, {c} * b + a\n    return a",
        (
            ("{c} * b + a", "b + a"),
            ("return a", "return b"),
            ("{c} * b + a", "{c} * a + b"),
            ("range(n)", "range(n + 1)"),
        ),
        "carry the last two terms",
        integer(0, 14),
        _small("a", "b", "c"),
    ),
    Template(
        "in how many ways n can be reached from 0 by steps of {a} and {b}, order counting",
        "n",
        "    ways = [1] + [0] * n\n    for i in range(1, n + 1):\n        for step in ({a}, {b}):\n"
        "            if i >= step:\n                ways[i] += ways[i - step]\n    return ways[n]",
        (("[1] + [0] * n", "[0] + [1] * n"), ("i >= step", "i > step"), ("+= ways", "= 1 + ways")),
        "ways[i] adds ways of i less each step",
        integer(0, 20),
        lambda rng: dict(zip("ab", rng.sample((1, 2, 3, 4), 2), strict=True)),
    ),
    Template(
        "the fewest coins of 1, {a} and {b} that make up n",
        "n",
        "    best = [0]\n    for i in range(1, n + 1):\n"
        "        best.append(1 + min(best[i - c] for c in (1, {a}, {b}) if c <= i))\n"
        "    return best[n]",
        (("(1, {a}, {b})", "(1, {a})"), ("1 + min", "min"), ("min(best", "max(best")),
        "the best of each last coin",
        integer(0, 40),
        _small("a", "b"),
    ),
    Template(
        "the sum of all numbers in the nested list, each times the depth of its list (1 outside)",
        "xs, depth=1",
        "    return sum(SELF(x, depth + 1) if isinstance(x, list) else x * depth for x in xs)",
        (("depth + 1", "depth"), ("x * depth", "x"), ("depth + 1", "depth * 2 + 1")),
        "recurse into lists one deeper",
        nested,
    ),
    Template(
        "the length of the longest subsequence of the list in which each number is at least {a} more "
        "than the one before",
        "xs",
        "    best = []\n    for i, x in enumerate(xs):\n"
        "        best.append(1 + max([best[j] for j in range(i) if x - xs[j] >= {a}], default=0))\n"
        "    return max(best, default=0)",
        ((">= {a}", ">= 0"), ("1 + max", "max"), ("return max(best, default=0)", "return best[-1] if best else 0")),
        "the best that ends at each place",
        numbers,
        _small("a"),
    ),
    Template(
        "True if the brackets ( ) [ ] in the text are balanced and properly nested, and False otherwise",
        "s",
        '    open_ones = []\n    for c in s:\n        if c in "([":\n            open_ones.append(c)\n'
        '        elif not open_ones or open_ones.pop() + c not in ("()", "[]"):\n            return False\n'
        "    return not open_ones",
        (
            ("return not open_ones", "return True"),
            ('open_ones.pop() + c not in ("()", "[]")', "not open_ones.pop()"),
            ("return False", "return True"),
        ),
        "a stack of open brackets",
        brackets,
    ),
    Template(
        "the fewest insertions, deletions (1 each) and replacements ({a} each) that turn the first text "
        "into the second",
        "s, t",
        "    row = list(range(len(t) + 1))\n    for i, c in enumerate(s, 1):\n        new = [i]\n"
        "        for j, d in enumerate(t, 1):\n"
        "            new.append(min(row[j] + 1, new[-1] + 1, row[j - 1] + (c != d) * {a}))\n        row = new\n"
        "    return row[-1]",
        (("(c != d) * {a}", "(c != d) * 3"), ("new[-1] + 1", "new[-1]"), ("new = [i]", "new = [0]")),
        "row by row of the table",
        two_texts,
        lambda rng: {"a": rng.choice((1, 2))},
    ),
    Template(
        "the greatest total value of items, given as lists [weight, value], whose weights sum to at most the limit",
        "items, limit",
        "    best = [0] * (limit + 1)\n    for weight, value in items:\n"
        "        for room in range(limit, weight - 1, -1):\n"
        "            best[room] = max(best[room], best[room - weight] + value)\n    return best[limit]",
        (
            ("range(limit, weight - 1, -1)", "range(weight, limit + 1)"),
            ("+ value)", "+ weight)"),
            ("return best[limit]", "return best[0]"),
        ),
        "best value for each room, from large to small",
        items,
    ),
    Template(
        "the intervals [start, end] of the list merged where they overlap or lie at most {a} apart, sorted by start",
        "xs",
        "    merged = []\n    for start, end in sorted(xs):\n        if merged and start <= merged[-1][1] + {a}:\n"
        "            merged[-1][1] = max(merged[-1][1], end)\n        else:\n            merged.append([start, end])\n"
        "    return merged",
        (
            ("max(merged[-1][1], end)", "end"),
            ("+ {a}:", ":"),
            ("sorted(xs)", "xs"),
            ("<= merged[-1][1]", "< merged[-1][0]"),
        ),
        "sort, then extend the last or append",
        intervals,
        lambda rng: {"a": rng.choice((1, 2, 3))},
    ),
)

TEMPLATES = ((), _BRANCHES, _TEXT_AND_LISTS, _TWO_STEPS, _RECURSION)
"""By level; level 0 has chains alone."""
