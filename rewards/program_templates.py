"""Small Python programs for `rewards.tasks.code_output`, one function a level; all of them end and print something."""

from __future__ import annotations

import random
from collections.abc import Callable

_WORDS = ("amber", "basil", "cedar", "delta", "ember", "fjord", "grape", "hazel", "ivory", "jumbo", "koala", "lemon")
_NAMES = "abcdefghkmnpqrstuvwxyz"


def straight_line(rng: random.Random) -> str:
    """Two names, the second made from the first, then one of them anew from the second; both printed."""
    first, second = rng.sample(_NAMES, 2)
    start, added, changed = rng.randint(11, 40), rng.randint(2, 9), rng.randint(2, 9)
    target = rng.choice((first, second))
    return (
        f"{first} = {start}\n{second} = {first} {rng.choice('+-')} {added}\n"
        f"{target} = {second} {rng.choice('+-')} {changed}\nprint({first}, {second})"
    )


def one_loop(rng: random.Random) -> str:
    """A total over a range, with a condition in every second program."""
    total, index = rng.sample(_NAMES, 2)
    start, stop, step = rng.randint(1, 5), rng.randint(6, 12), rng.randint(1, 3)
    head = f"{total} = {rng.randint(10, 40)}\nfor {index} in range({start}, {stop}, {step}):\n"
    factor = rng.randint(2, 4)
    if rng.random() < 0.5:
        return head + f"    {total} += {factor} * {index}\nprint({total})"
    divisor = rng.randint(2, 3)
    return head + (
        f"    if {index} % {divisor} == {rng.randrange(divisor)}:\n        {total} += {factor} * {index}\n"
        f"    else:\n        {total} -= {index}\nprint({total}, {index})"
    )


def lists_and_text(rng: random.Random) -> str:
    """Slices, indices, comprehensions and joined text."""
    numbers = [rng.randint(1, 30) for _ in range(rng.randint(5, 7))]
    word = rng.choice(_WORDS)
    kind = rng.randrange(3)
    if kind == 0:
        cut = rng.randint(1, 3)
        return (
            f"numbers = {numbers}\nkept = [n for n in numbers if n % {rng.randint(2, 3)} == {rng.randrange(2)}]\n"
            f"kept.append(numbers[{cut}])\nrest = numbers[{cut}:]\nprint(kept, sum(rest))"
        )
    if kind == 1:
        step = rng.randint(2, 3)
        return (
            f'word = "{word}"\ntext = word[::-1]\nfor n in range({rng.randint(2, 3)}):\n'
            f"    text = text[{step - 1}:] + word[n]\nprint(text, len(text), text.upper()[0])"
        )
    return (
        f"numbers = {numbers}\nordered = sorted(numbers)\nlow = ordered[{rng.randint(0, 1)}]\n"
        f"high = max(numbers) - {rng.randint(1, 9)}\nresult = [n - low if n > high else n + {rng.randint(2, 9)} "
        f"for n in numbers[{rng.randint(0, 1)}:{rng.randint(4, 5)}]]\nprint(result, low)"
    )


def functions_and_while(rng: random.Random) -> str:
    """A function with a while loop or with recursion, called twice."""
    first, second = rng.randint(15, 60), rng.randint(15, 60)
    kind = rng.randrange(3)
    if kind == 0:
        divisor = rng.randint(2, 4)
        return (
            f"def shrink(n, k):\n    count = 0\n    while n > k:\n        if n % {divisor} == 0:\n"
            f"            n = n // {divisor}\n        else:\n            n = n - {rng.randint(1, 3)}\n"
            f"        count += 1\n    return count + n\nprint(shrink({first}, {rng.randint(3, 6)}), "
            f"shrink({second}, {rng.randint(3, 6)}))"
        )
    if kind == 1:
        low = rng.randint(1, 3)
        return (
            f"def climb(n):\n    if n < {low + 1}:\n        return n + {rng.randint(1, 9)}\n"
            f"    return climb(n - 1) + climb(n - {low + 1})\nvalue = climb({rng.randint(4, 6)})\n"
            f"print(value, climb({rng.randint(2, 4)}) * {rng.randint(2, 9)})"
        )
    return (
        f"def mix(a, b):\n    while b > 0:\n        rest = a % b\n        a = b\n        b = rest\n    return a\n"
        f"top = mix({first * rng.randint(2, 6)}, {second * rng.randint(2, 4)})\n"
        f"print(top, mix({first}, top + {rng.randint(2, 9)}))"
    )


def tables(rng: random.Random) -> str:
    """Nested loops over a grid, or counts in a dictionary."""
    if rng.random() < 0.5:
        rows = [[rng.randint(1, 9) for _ in range(3)] for _ in range(3)]
        return (
            f"grid = {rows}\ntotal = 0\nmarks = []\nfor i in range(3):\n    for j in range(3):\n"
            f"        if grid[i][j] > grid[j][i]:\n            total += grid[i][j] * {rng.randint(2, 4)}\n"
            f"        else:\n            total -= i + j\n    marks.append(total)\n"
            f"    grid[i][0] = total % {rng.randint(5, 9)}\nprint(marks, grid)"
        )
    word = rng.choice(_WORDS) + rng.choice(_WORDS)
    letters = sorted(set(word))
    first, second = rng.sample(letters, 2)
    return (
        f'counts = {{}}\nscore = {rng.randint(10, 30)}\nfor letter in "{word}":\n'
        f"    counts[letter] = counts.get(letter, 0) + 1\n    if counts[letter] > 1:\n"
        f"        score += {rng.randint(3, 9)} * counts[letter]\n    else:\n        score -= 1\n"
        f'print(score, len(counts), counts["{first}"] + {rng.randint(2, 9)} * counts["{second}"])'
    )


LEVELS: tuple[Callable[[random.Random], str], ...] = (
    straight_line,
    one_loop,
    lists_and_text,
    functions_and_while,
    tables,
)
