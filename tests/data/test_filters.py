"""Query and response filters: what each catches, what it must leave alone, and its counts."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.filters import (
    Candidate,
    ContaminationError,
    Decontaminator,
    FilterReport,
    ResponseFilterConfig,
    assert_clean,
    balance_by_domain,
    decontaminate,
    deduplicate,
    filter_responses,
    final_value,
    learnable,
    needs_reasoning,
    question_text,
    verifiable,
)
from data.records import Prompt, Score, UserError
from data.text_signals import derived, foreign_share, same_value, script_shares


def prompt(text: str, uid: str = "", reference: object = "1", domain: str = "") -> Prompt:
    return Prompt(uid or text, "math", ({"role": "user", "content": text},), reference, domain=domain)


words = st.lists(st.sampled_from(["alpha", "beta", "gamma", "1", "2", "3", "+", "(", "?"]), max_size=12).map(" ".join)
prompt_lists = st.lists(
    st.builds(
        lambda text, domain, uid: prompt(text, str(uid), domain=domain), words, st.sampled_from("abc"), st.integers()
    ),
    max_size=12,
    unique_by=lambda item: item.uid,
)


# ---------------------------------------------------------------------------------------------- query filters


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("What is 3 + 4?", None),
        ("Is it true that f(a) = b?", None),
        ("Which is prime? (A) 4 (B) 5 (C) 6", None),
        ("Given 1. a ball and 2. a box, find the mass.", None),
        ("Write a Python function that returns the sum of a list.", None),
        ("Describing x as a root, find x.", None),
        ("```python\nx = a if b? else c?\n``` What does this print?", None),
        ("What is 3 + 4? What is 5 + 6?", "several questions"),
        ("Let f(x) = x^2. (a) Find f(2). (b) Compute f'(2).", "several questions"),
        ("A car moves. 1. What is its speed? 2. How far does it go?", "several questions"),
        ("Part 1: find x. Part 2: find y.", "several questions"),
        ("Write a short story about a dragon.", "open-ended text"),
        ("Please compose an email to my landlord.", "open-ended text"),
        ("Discuss the causes of the war.", "open-ended text"),
        ("What do you think of this plan", "open-ended text"),
    ],
)
def test_only_single_checkable_questions_are_verifiable(text: str, reason: str | None) -> None:
    _, report = verifiable([prompt(text)])
    assert dict(report.dropped_by_reason) == ({reason: 1} if reason else {})


@pytest.mark.parametrize("reference", [None, "", {}, [], {"answer": ""}, {"answer": None}])
def test_a_query_without_a_reference_is_not_verifiable(reference: object) -> None:
    assert verifiable([prompt("What is 3?", reference=reference)])[1].dropped_by_reason == {"no reference": 1}


@pytest.mark.parametrize("reference", [0, False, {"answer": 0}, {"answer": "", "tests": ["x"]}])
def test_a_reference_that_is_zero_or_false_is_still_a_reference(reference: object) -> None:
    assert verifiable([prompt("What is 3?", reference=reference)])[1].kept == 1


def test_queries_solved_without_reasoning_are_dropped_and_no_verdict_is_not_unsolved() -> None:
    prompts = [prompt("a"), prompt("b"), prompt("c"), prompt("d")]
    kept, report = needs_reasoning(prompts, {"a": False, "b": True, "c": False, "d": None})
    assert [item.uid for item in kept] == ["a", "c"]
    assert report == FilterReport(2, {"solved without CoT": 1, "no verdict without CoT": 1})


def test_a_prompt_that_was_never_measured_is_refused_and_not_guessed() -> None:
    with pytest.raises(UserError, match="no entry for prompt 'b'"):
        needs_reasoning([prompt("a"), prompt("b")], {"a": False})
    with pytest.raises(UserError, match="no entry for prompt 'b'"):
        learnable([prompt("b")], {"a": 0.5})


def test_learnable_queries_lie_strictly_between_the_bounds_and_no_verdict_is_not_a_failure() -> None:
    prompts = [prompt(name) for name in "abcde"]
    rates = {"a": 0.0, "b": 0.75, "c": 1.0, "d": 0.25, "e": None}
    kept, report = learnable(prompts, rates)
    assert [item.uid for item in kept] == ["b", "d"]
    assert report.dropped_by_reason == {"pass rate too low": 1, "pass rate too high": 1, "no verdict": 1}
    assert [item.uid for item in learnable(prompts, rates, hardest_first=True)[0]] == ["d", "b"]
    assert [item.uid for item in learnable(prompts, rates, 0.25, 0.9)[0]] == ["b"]


@pytest.mark.parametrize("rate", [-0.1, 1.5, math.nan])
def test_an_impossible_pass_rate_is_refused(rate: float) -> None:
    with pytest.raises(UserError, match="pass_rates: 'a'"):
        learnable([prompt("a")], {"a": rate})


def test_balancing_caps_every_domain() -> None:
    prompts = [prompt(f"{domain}{i}", domain=domain) for domain, size in (("x", 5), ("y", 2)) for i in range(size)]
    _, by_count = balance_by_domain(prompts, per_domain=3)
    assert by_count == FilterReport(5, {"over the cap of domain 'x'": 2})
    kept, by_ratio = balance_by_domain(prompts, max_ratio=1.5)
    assert by_ratio == FilterReport(5, {"over the cap of domain 'x'": 2})
    assert kept == [item for item in prompts if item in kept]


def test_balancing_picks_by_seed_and_uid_and_not_by_position() -> None:
    prompts = [prompt(f"q{i}", domain="x") for i in range(30)]
    chosen = {item.uid for item in balance_by_domain(prompts, per_domain=5, seed=1)[0]}
    assert chosen == {item.uid for item in balance_by_domain(prompts[::-1], per_domain=5, seed=1)[0]}
    assert chosen != {item.uid for item in balance_by_domain(prompts, per_domain=5, seed=2)[0]}


@pytest.mark.parametrize("arguments", [{}, {"per_domain": 1, "max_ratio": 2.0}, {"per_domain": 0}, {"max_ratio": 0.5}])
def test_balancing_needs_exactly_one_sensible_cap(arguments: dict) -> None:
    with pytest.raises(UserError, match="balance"):
        balance_by_domain([prompt("a")], **arguments)


def test_duplicates_are_found_up_to_case_spacing_and_unicode_form_but_operators_differ() -> None:
    prompts = [prompt("What is 3+2?", "1"), prompt("what  is ３+2?", "2"), prompt("What is 3-2?", "3")]
    kept, report = deduplicate([*prompts, prompt("What is 3+2?", "4", reference="9")])
    assert [item.uid for item in kept] == ["1", "3"]
    assert report.dropped_by_reason == {"duplicate": 1, "duplicate with another reference": 1}


def test_decontamination_leaves_what_the_gate_accepts() -> None:
    evals = ["What is 3 + 2?"]
    prompts = [prompt("clean"), prompt("what is 3+2", "dirty")]
    with pytest.raises(ContaminationError, match=r"train\[1\] equals eval\[0\]"):
        assert_clean([question_text(item) for item in prompts], evals)
    kept, report = decontaminate(prompts, Decontaminator(evals))
    assert report == FilterReport(1, {"holds evaluation text": 1})
    assert_clean([question_text(item) for item in kept], evals)


@given(prompt_lists)
def test_query_filters_keep_order_lose_nothing_uncounted_and_change_nothing_the_second_time(
    prompts: list[Prompt],
) -> None:
    solved = {item.uid: hash(item.domain) % 2 == 0 for item in prompts}
    rates = {item.uid: {"a": 0.0, "b": 0.5, "c": 1.0}[item.domain] for item in prompts}
    gate = Decontaminator(["alpha beta gamma 1 2 3"], 3)
    for run in (
        verifiable,
        deduplicate,
        lambda items: needs_reasoning(items, solved),
        lambda items: learnable(items, rates),
        lambda items: balance_by_domain(items, per_domain=2),
        lambda items: balance_by_domain(items, max_ratio=1.5),
        lambda items: decontaminate(items, gate),
    ):
        kept, report = run(prompts)
        assert report.kept == len(kept)
        assert report.kept + report.dropped == len(prompts)
        positions = [prompts.index(item) for item in kept]
        assert positions == sorted(positions)
        assert run(kept) == (kept, FilterReport(len(kept), {}))


def test_reports_of_successive_filters_add_up() -> None:
    first = FilterReport(3, {"a": 2})
    assert first.then(FilterReport(1, {"a": 1, "b": 1})) == FilterReport(1, {"a": 3, "b": 1})
    with pytest.raises(ValueError, match="3 kept, but the next filter saw 2"):
        first.then(FilterReport(2))


# ---------------------------------------------------------------------------------------------- response filters

CONFIG = ResponseFilterConfig()
GOOD = Candidate(
    prompt("Tom has 3 apples and buys 4 more. How many apples does he have now?"),
    "He starts with 3 apples. He buys 4 more, so the count goes up by 4. Adding gives 3 + 4 = 7.",
    "He has 7 apples.",
    Score.correct(),
)


def reason_for(candidate: Candidate, **arguments: object) -> str | None:
    kept, report = filter_responses([candidate], arguments.pop("config", CONFIG), **arguments)  # type: ignore[arg-type]
    assert len(kept) + report.dropped == 1
    return next(iter(report.dropped_by_reason), None)


def test_a_sound_response_passes_all_six_filters() -> None:
    assert reason_for(GOOD) is None


def test_a_failed_verifier_is_counted_apart_from_a_wrong_answer() -> None:
    candidates = [GOOD, replace(GOOD, score=Score.incorrect()), replace(GOOD, score=Score.error("timeout"))]
    kept, report = filter_responses([*candidates, replace(GOOD, score=Score.of(0.5))], CONFIG)
    assert kept == [GOOD]
    assert report == FilterReport(1, {"wrong final answer": 2, "verifier error": 1})
    assert reason_for(replace(GOOD, score=Score.of(0.5)), config=ResponseFilterConfig(min_reward=0.5)) is None


def test_a_looping_response_is_dropped() -> None:
    loop = replace(GOOD, reasoning=GOOD.reasoning + " Wait, let me check that once more, 3 + 4 = 7." * 8)
    assert reason_for(loop) == "repetition"


@pytest.mark.parametrize(
    ("reasoning", "reason"),
    [
        ("", "guesswork"),
        ("It is 7.", "guesswork"),
        ("This is hard to work out from what is given here, so I guess it is 7.", "guesswork"),
        ("There are apples and some more of them. I'll just guess. My best guess is 7 apples.", "guesswork"),
        ("Adding the apples gives 3 + 4 = 7. I guess that is all there is to it. So 7.", None),
    ],
)
def test_guessing_is_dropped_unless_the_value_is_derived(reasoning: str, reason: str | None) -> None:
    assert reason_for(replace(GOOD, reasoning=reasoning)) == reason


def test_a_value_counts_as_derived_only_outside_the_sentence_that_guesses() -> None:
    assert derived("7", "3 + 4 = 7. I guess 7.")
    assert not derived("7", "It is 17 or 70. I guess 7.")


def test_thinking_that_ends_in_another_value_than_the_answer_is_dropped() -> None:
    other = replace(GOOD, answer="He has 8 apples.")
    assert reason_for(other) == "thinking and answer differ"
    assert reason_for(other, extract=lambda text: None) is None
    assert reason_for(replace(GOOD, answer=r"So \boxed{7.0}")) is None
    assert reason_for(replace(GOOD, answer="It is seven.")) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"first \boxed{3}, then \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{3} and an open \boxed{4", "3"),
        ("so 1,234.5.", "1,234.5"),
        ("5-3 gives 2", "2"),
        ("x = -3", "-3"),
        ("x2 is a name", None),
        ("nothing", None),
    ],
)
def test_the_final_value_is_the_last_box_or_else_the_last_number(text: str, value: str | None) -> None:
    assert final_value(text) == value


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("1,000", "1000.0", True),
        ("1/2", "0.5", True),
        ("7", "8", False),
        ("1/0", "1/0", True),
        ("Paris", "paris.", True),
    ],
)
def test_values_are_compared_as_numbers_first(left: str, right: str, same: bool) -> None:
    assert same_value(left, right) is same


def test_script_shares_count_prose_letters_only() -> None:
    assert script_shares("ab 中文") == {"latin": 0.5, "han": 0.5}
    assert script_shares(r"设 x 为 $\alpha + beta$ 和 `code` α") == {"han": 1.0}
    assert script_shares("3 + 4 = ?") == {}
    assert foreign_share("ab 中文", {"latin"}) == 0.5
    assert foreign_share("abcd 中", set()) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("question", "reasoning", "answer", "reason"),
    [
        ("What is 3 + 4?", GOOD.reasoning + " 所以答案是七，我们得到七个苹果", "It is 7.", "language mixing"),
        ("What is 3 + 4?", GOOD.reasoning, "答案是 7", "language mixing"),
        ("三加四等于几？", "先从三开始，再加上四，一步一步数：四、五、六、七。所以得到 7", "答案是 7", None),
        ("三加四等于几？", GOOD.reasoning, "答案是 7", "language mixing"),
        ("3 + 4 = ?", GOOD.reasoning, "It is 7.", None),
        ("3 + 4 = ?", "先从三开始，再加上四，一步一步数：四、五、六、七。所以得到 7", "答案是 7", None),
    ],
)
def test_a_response_in_another_script_than_its_question_is_dropped(
    question: str, reasoning: str, answer: str, reason: str | None
) -> None:
    assert reason_for(Candidate(prompt(question), reasoning, answer, Score.correct())) == reason


def test_a_translation_target_can_be_allowed() -> None:
    candidate = replace(GOOD, answer="他现在有 7 个苹果")
    assert reason_for(candidate) == "language mixing"
    assert reason_for(candidate, config=ResponseFilterConfig(allowed_scripts=("han",))) is None


def test_either_similarity_measure_alone_drops_a_response() -> None:
    # Trigrams: the item has a b c, b c d, c d e; the question the first two. Jaccard 2/3, containment 2/3.
    close = replace(GOOD, prompt=prompt("alpha beta gamma delta"))
    by_jaccard = replace(CONFIG, similarity_n=3, max_jaccard=0.6, max_containment=0.7)
    by_containment = replace(CONFIG, similarity_n=3, max_jaccard=0.7, max_containment=0.6)
    neither = replace(CONFIG, similarity_n=3, max_jaccard=0.7, max_containment=0.7)
    for config, reason in ((by_jaccard, True), (by_containment, True), (neither, False)):
        found = reason_for(close, config=config, validation_texts=["alpha beta gamma delta epsilon"])
        assert (found == "similar to a validation item") is reason


def test_a_response_close_to_a_validation_item_is_dropped() -> None:
    item = "Maria walks along the river for two hours and then meets her sister near the old bridge."
    reason = "similar to a validation item"
    copied = replace(GOOD, reasoning=f"This is like: {item} {GOOD.reasoning}")
    assert reason_for(copied, validation_texts=[item]) == reason
    assert reason_for(replace(GOOD, prompt=prompt(item.upper())), validation_texts=[item]) == reason
    assert reason_for(GOOD, validation_texts=[item]) is None


@given(
    st.lists(
        st.builds(
            Candidate,
            words.map(prompt),
            st.sampled_from([GOOD.reasoning, "", "I guess 3.", "a b " * 40]),
            st.sampled_from(["7", "8", "答案是"]),
            st.sampled_from([Score.correct(), Score.incorrect(), Score.error("x"), Score.of(0.5)]),
        ),
        max_size=8,
    )
)
def test_response_filters_lose_nothing_uncounted_and_are_idempotent(candidates: list[Candidate]) -> None:
    kept, report = filter_responses(candidates, CONFIG, validation_texts=["alpha beta gamma 1 2 3"])
    assert len(kept) == report.kept
    assert report.kept + report.dropped == len(candidates)
    again = filter_responses(kept, CONFIG, validation_texts=["alpha beta gamma 1 2 3"])
    assert again == (kept, FilterReport(len(kept), {}))


@pytest.mark.parametrize("field", ["max_jaccard", "max_repetition_share", "repetition_n", "min_reasoning_tokens"])
def test_a_threshold_outside_its_range_is_refused_by_name(field: str) -> None:
    with pytest.raises(UserError, match=field):
        filter_responses([], ResponseFilterConfig(**{field: -1}))  # type: ignore[arg-type]
