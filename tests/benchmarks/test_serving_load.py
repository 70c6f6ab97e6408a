"""What the load counts as failed and as mixed, on answers written down by hand."""

from __future__ import annotations

from benchmarks.serving_load import Answer, Load, figures, mixed
from serving.live import SwapResult

EXPECTED = {"v1": {"p": "one"}, "v2": {"p": "two"}}


def answer(*versions: str, text: str = "one", failed: str | None = None, total_s: float = 1.0) -> Answer:
    return Answer(0.5, total_s, versions, "p", text, len(versions) > 1, failed)


def test_an_answer_is_mixed_when_it_names_two_versions_or_is_not_what_the_named_one_says() -> None:
    right = [answer("v1"), answer("v1", "v1"), answer("v2", text="two"), answer(failed="TimeoutError")]
    wrong = [answer("v1", "v2"), answer("v2", text="one"), answer("v3"), answer("v1", text="onetwo")]
    assert mixed([*right, *wrong], EXPECTED) == wrong


def test_without_a_comparison_the_names_alone_count() -> None:
    assert mixed([answer("v2", text="one"), answer("v1", "v2")], None) == [answer("v1", "v2")]


def test_the_figures_of_a_load() -> None:
    answers = [answer("v1", "v1", total_s=0.1 * number) for number in range(1, 11)] + [answer("v2", text="two")]
    load = Load([*answers, answer(failed="ConnectionError")], [SwapResult("v2", 0.25, None)])
    found = dict(figures(load, EXPECTED))
    assert (found["requests"], found["failed"], found["mixed versions"]) == ("12", "1", "0")
    assert (found["versions that answered"], found["pause of each swap, s"]) == ("2", "0.250")
    assert found["whole answer, ms (p50, p90, p99, max)"] == "600, 1000, 1000, 1000"
    assert found["first token, ms (p50, p90, p99, max)"] == "500, 500, 500, 500"
