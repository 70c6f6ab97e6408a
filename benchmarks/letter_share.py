"""The reward function of the speed comparisons; without imports, because a peer's own environment loads it too."""

from __future__ import annotations


def letter_share(text: str) -> float:
    """The share of a to m among the letters a to z of `text`; 0.5 when it has none."""
    letters = [letter for letter in text.lower() if "a" <= letter <= "z"]
    return sum(letter <= "m" for letter in letters) / len(letters) if letters else 0.5
