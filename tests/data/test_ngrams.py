"""Tokens, n-gram measures and decontamination: what counts as the same text, and what must not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.ngrams import ContaminationError, Decontaminator, NgramIndex, assert_clean, repetition_share, tokens
from data.records import UserError


def test_repetition_share_is_the_share_of_repeated_ngrams() -> None:
    # a b a b a: four bigrams (ab, ba, ab, ba), two of them distinct.
    assert repetition_share("a b a b a", 2) == 0.5
    assert repetition_share("a b c d", 2) == 0.0
    assert repetition_share("a", 2) == 0.0


def test_similarity_is_jaccard_and_containment_over_ngrams() -> None:
    # bigrams of the item: ab bc cd; of the text: ab bc cx. Two shared, four in the union.
    assert NgramIndex(["a b c d"], 2).similarity("a b c x") == (2 / 4, 2 / 3)
    assert NgramIndex(["a b c d"], 2).similarity("x y z") == (0.0, 0.0)
    assert NgramIndex(["a b"], 5).similarity("A  b!") == (1.0, 1.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What is 1,000 + 2.5?", ("what", "is", "1000", "+", "2.5")),
        ("A well-known x-y", ("a", "well", "known", "x", "-", "y")),
        ("3−2 = 1.", ("3", "-", "2", "=", "1")),
        ("三个a", ("三", "个", "a")),
        ("Solve 5! now!", ("solve", "5", "!", "now")),
        ("??", ("??",)),
        ("  ", ()),
    ],
)
def test_tokens_are_words_whole_numbers_and_operators(text: str, expected: tuple[str, ...]) -> None:
    assert tokens(text) == expected


@given(st.lists(st.text(max_size=30).filter(str.strip), min_size=1, max_size=5), st.integers(1, 20))
def test_an_exact_duplicate_is_always_caught(texts: list[str], n: int) -> None:
    gate = Decontaminator(texts, n, ignore=texts)
    assert all(gate.contaminated(text) and gate.overlap(text) == 1.0 for text in texts)


LONG = "A farmer sells half of his eggs on Monday and a third of the rest on Tuesday, how many remain?"


def test_a_shared_window_inside_other_text_is_caught_and_its_origin_named() -> None:
    gate = Decontaminator(["unrelated words stand here", LONG], 8)
    match = gate.match("Please answer. " + LONG.upper().replace(",", ";") + " Thanks.")
    assert match is not None
    assert (match.index, match.shared, match.exact) == (1, "a farmer sells half of his eggs on", False)
    assert not gate.contaminated("A farmer sells half of his milk on Monday")


def test_a_short_text_matches_as_a_whole_only() -> None:
    gate = Decontaminator(["What is 3 + 2?"], 8)
    assert gate.contaminated("what is 3+2")
    assert not gate.contaminated("What is 3 - 2?")
    assert not gate.contaminated("Tell me: what is 3 + 2?")


def templated(a: int, b: int) -> str:
    return rf"Work out the sum of {a} and {b} and put the final answer in a box."


def test_prompts_that_differ_in_their_numbers_alone_are_not_contaminated() -> None:
    gate = Decontaminator([templated(a, 7) for a in range(20, 60)], 8)
    assert not gate.contaminated(templated(3, 7))
    assert gate.contaminated(templated(25, 7))
    assert Decontaminator([templated(20, 7)], 8).contaminated(templated(3, 7))


def test_wording_is_a_template_of_its_own_group_however_many_texts_stand_beside_it() -> None:
    sums = [templated(a, 7) for a in range(20, 60)]
    others = [" ".join(f"w{k}x{i}" for i in range(12)) for k in range(4000)]
    pooled = Decontaminator(sums + others, 8)
    grouped = Decontaminator(sums + others, 8, groups=["sums"] * len(sums) + ["others"] * len(others))
    assert pooled.contaminated(templated(3, 7))
    assert not grouped.contaminated(templated(3, 7))
    assert grouped.contaminated(templated(25, 7))
    assert grouped.contaminated(others[17])
    with pytest.raises(ValueError, match="1 group names for 40 texts"):
        Decontaminator(sums, 8, groups=["sums"])


def test_a_long_list_of_numbers_identifies_a_problem_inside_a_template_but_a_binary_grid_does_not() -> None:
    lists = [" ".join(str(10 * k + i * i) for i in range(9)) for k in range(40)]
    gate = Decontaminator([f"Sort these numbers in rising order: {numbers}" for numbers in lists], 8)
    assert gate.contaminated(f"Here: {lists[5]} is a list")
    grids = [f"Grid: {k:09b}".replace("", " ") for k in range(40)]
    assert not Decontaminator(grids, 8).contaminated("Grid: " + "0 0 0 0 0 0 0 1 1 and 1")


def test_boilerplate_that_the_caller_names_does_not_count() -> None:
    boiler = "Think step by step and give only the final number without any words"
    evals = [f"{boiler}. How tall is the tower?"]
    assert Decontaminator(evals, 8).contaminated(f"{boiler}. What is the mass?")
    assert not Decontaminator(evals, 8, ignore=[boiler]).contaminated(f"{boiler}. Name the capital.")


def test_more_shared_windows_can_be_demanded() -> None:
    half = " ".join(LONG.split()[:9])
    assert Decontaminator([LONG], 8).contaminated(half)
    assert Decontaminator([LONG], 8).overlap(half + " zzz") == 2 / 3
    assert not Decontaminator([LONG], 8, min_informative=3).contaminated(half)


def test_the_gate_names_the_first_pairs_and_passes_clean_texts() -> None:
    train = ["clean text", LONG, "what is 3+2", "also clean"]
    evals = ["What is 3 + 2?", LONG]
    with pytest.raises(ContaminationError) as caught:
        assert_clean(train, evals)
    assert isinstance(caught.value, UserError)
    message = str(caught.value)
    assert "2 of 4 training texts" in message
    assert "train[1] equals eval[1]" in message
    assert "train[2] equals eval[0]: 'what is 3 + 2'" in message
    assert "\n" not in message
    assert_clean([train[0], train[3]], evals)


def test_impossible_settings_are_refused() -> None:
    for arguments in ({"n": 0}, {"template_share": 0.0}, {"min_informative": 0}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            Decontaminator([], **arguments)
