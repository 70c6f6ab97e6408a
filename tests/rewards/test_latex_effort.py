"""Expressions that would keep an algebra system busy until it is killed, and their harmless neighbours."""

from __future__ import annotations

import pytest

from rewards.latex_effort import MAX_EXPONENT, out_of_reach


@pytest.mark.parametrize(
    ("latex", "gold", "reason"),
    [
        ("9^{9^{9^9}}", "6x+4", "a tower of powers"),
        ("9^9^9", "6x+4", "a tower of powers"),
        ("x^{9^{9}}", "x^9", "a tower of powers"),
        ("((9!)!)!", "6x+4", "a factorial"),
        ("(5!)!", "5!", "a factorial"),
        (f"(x+1)^{{{MAX_EXPONENT + 1}}}", "6x+4", "an exponent out of reach"),
        ("2^99999999999999999999", "6x+4", "an exponent out of reach"),
        ("(((x+1)^9)^9)^9", "6x+4", "an exponent out of reach"),
        ("((x+1)^{50})^{50}", "6x+4", "an exponent out of reach"),
        (f"(x+1)^{{{MAX_EXPONENT}}}", "6x+4", None),
        ("21x^{2}+8x^{3}+9", "6x+4", None),
        ("x^{200}y^{200}", "6x+4", None),
        ("(x^2)^3", "x^6", None),
        ("5!", "5!", None),
        ("2^{3^4}", "2^{3^{4}}", None),
        ("2^{1000}", "4^{500}", None),
        ("e^{x+1}x^{2}", "6x+4", None),
        ("x_{1}^2+{x}^2", "6x+4", None),
    ],
)
def test_what_is_out_of_reach(latex: str, gold: str, reason: str | None) -> None:
    assert out_of_reach(latex, gold) == reason


def test_the_check_is_linear_enough_for_any_answer() -> None:
    for text in ("^{" * 150, "^" * 300, "{" * 300, "}" * 300, "x^9" * 100, "^{9}" * 75, ")^{9" * 75):
        out_of_reach(text, "x")
