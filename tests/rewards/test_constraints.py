"""The constraint library: each kind passes what obeys it, and fails near misses and what costs nothing to write."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from data.records import UserError
from rewards.constraint_checks import AT_LEAST, capital_word_frequency, sentences, words
from rewards.constraints import KINDS, NAMES, compatible, describe, draw, has_content, obeys
from rewards.tasks.length import BANKS

SEA = "The old ships drift over the deep sea."
LONG_GERMAN = "Das Meer ist heute ruhig und blau, und die alten Schiffe fahren langsam nach Hause in den Hafen."

CASES: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
    ("keywords_exist", {"keywords": ["ai", "sea"]}, ["An AI and the sea met."], ["The maid and the sea met.", SEA]),
    ("keyword_frequency", {"keyword": "sea", "relation": "at least", "frequency": 2},
     ["A sea is a sea of salt."], ["A sea and a seat and a season.", SEA]),
    ("keyword_frequency", {"keyword": "sea", "relation": "less than", "frequency": 2}, [SEA], ["Sea meets sea again."]),
    ("forbidden_words", {"forbidden_words": ["ship"]}, [SEA], ["The old ship drifts home."]),
    ("letter_frequency", {"letter": "s", "let_relation": "at least", "let_frequency": 3}, ["Ships sail seas."],
     ["The old boat drifted home."]),
    ("keyword_in_sentence", {"keyword": "sea", "nth": 2}, ["Ships drift. The sea sings."],
     ["The sea sings. Ships drift."]),
    ("response_language", {"language": "de"}, [LONG_GERMAN], [SEA, "123!!", "😀😀😀", "12 34 56 78"]),
    ("number_words", {"relation": "at least", "num_words": 8}, [SEA], ["The old ships drift over the sea."]),
    ("number_words", {"relation": "less than", "num_words": 8}, ["The old ships drift over the sea."], [SEA]),
    ("words_between", {"low": 8, "high": 8}, [SEA], [SEA + " Yes.", "The ships drift over the deep sea."]),
    ("number_sentences", {"relation": "at least", "num_sentences": 2}, ["Dr. Sea met a ship. It sank!"],
     ["Dr. Sea met a ship.", "Ships drift home ... . . ."]),
    ("max_sentence_words", {"num_words": 4}, ["Old ships drift home. Gulls sing."], [SEA]),
    ("distinct_first_words", {}, ["Old ships drift. Gulls sing."], ["Old ships drift. Old gulls sing.", SEA]),
    ("number_paragraphs", {"num_paragraphs": 2}, ["Old ships drift.\n***\nGulls sing."],
     ["Old ships drift.\n\nGulls sing.", "Old ships drift.\n***\n", "Old ships drift.\n***\n***\nGulls sing."]),
    ("nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "gulls"},
     ["Old ships drift.\n\nGulls, I say, sing."],
     ["Gulls sing.\n\nOld ships drift.", "Old ships drift.\n\nSeagulls sing.", "Gulls sing about old ships."]),
    ("number_lines", {"num_lines": 2}, ["Old ships drift.\n\nGulls sing."], [SEA, "Old ships drift.\n---"]),
    ("number_bullets", {"num_bullets": 2}, ["- Old ships\n* Gulls sing"],
     ["- Old ships\n* Gulls sing\n- Whales", "- Old ships drift\n---\n", "- Old ships drift home\n-  \n"]),
    ("numbered_list", {"num_items": 2}, ["1. Old ships\n2) Gulls sing"],
     ["1. Old ships\n3. Gulls", "1. Old ships\n2. ."]),
    ("number_highlights", {"num_highlights": 2}, ["*Old* ships **drift** home."],
     ["**Old** ships drift home.", "*1* ships *2* drift home."]),
    ("multiple_sections", {"section_spliter": "Section", "num_sections": 2},
     ["Section 1\nOld ships.\nSection 2\nGulls sing."],
     ["Section 1 Section 2 old ships drift", "Subsection 1 old ships. Subsection 2 gulls sing."]),
    ("number_placeholders", {"num_placeholders": 2}, ["Ask [name] about [place] today."],
     ["Ask [name] about the ships.", "Ask [] about [ ] today now.", "Ask [1] about [2] today now."]),
    ("title", {}, ["<<Old ships>>\nThey drift home."], ["<< >>\nOld ships drift home.", "<<Old ships drift>>", SEA]),
    ("postscript", {"postscript_marker": "P.S."}, ["Old ships drift.\nP.S. Gulls sing.",
     "Old ships. p. s. gulls sing"],
     ["Old ships drift home. P.S.", "Old ships drift. P.P.S. Gulls sing.", SEA]),
    ("postscript", {"postscript_marker": "P.P.S"}, ["Old ships drift. P.P.S. Gulls sing."],
     ["Old ships. P.S. Gulls sing."]),
    ("two_responses", {}, ["Old ships drift.\n******\nGulls sing."],
     ["Old ships drift.\n******\nold ships  drift.", "Old ships\n******\nsing\n******\nGulls",
      "Old ships drift\n******"]),
    ("repeat_prompt", {"prompt_to_repeat": "Say hello."}, ["Say hello. Hello there!"],
     ["Say hello.", "Well: Say hello. Hello there!"]),
    ("constrained_response", {}, ["My answer is yes."],
     ["My answer is yes. My answer is no.", "My answer is perhaps."]),
    ("english_capital", {}, ["OLD SHIPS DRIFT HOME."],
     ["OLD SHIPS DRIFT HOMe.", "ΤΑ ΠΛΟΙΑ ΕΙΝΑΙ ΕΔΩ", LONG_GERMAN.upper()]),
    ("english_lowercase", {}, ["old ships drift home.",
     "the old ships drift over the deep sea and the gulls sing at night."],
     [SEA, LONG_GERMAN.lower(), "старые корабли плывут"]),
    ("capital_word_frequency", {"capital_relation": "at least", "capital_frequency": 2}, ["OLD ships DRIFT home."],
     ["OLD ships drift home."]),
    ("no_comma", {}, [SEA], ["Old ships, gulls.", "旧船，海鸥在海上飞翔。"]),
    ("no_digits", {}, [SEA], ["The 3 old ships drift home."]),
    ("exclamations", {"num_exclamations": 2}, ["Old ships! New gulls!"], ["Old ships drift!!", SEA]),
    ("quotation", {}, [f'"{SEA}"'], [SEA, f'"{SEA}', f"'{SEA}'"]),
    ("start_phrase", {"phrase": "Good morning"}, ["Good morning, old ships.", '"good morning old ships"'],
     ["A good morning to ships.", "Good mornings are rare."]),
    ("end_phrase", {"end_phrase": "all."}, ["Old ships, that is all.", '"Old ships are ALL."'],
     ["Old ships are all. Bye.", "The old ships stall."]),
    ("last_word", {"word": "home"}, ["Old ships drift home!"], ["Home is where ships drift."]),
    ("json_format", {}, ['{"text": "old ships drift"}', '```json\n{"text": "old ships drift"}\n```'],
     ['"old ships drift home"', "123456789",
      '{"a": "old ships"} drift', '{"a": "old ships", "a": "drift"}', "[" * 9000]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "good", "bad"), CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)])
def test_each_kind_passes_what_obeys_and_fails_near_misses(
    name: str, arguments: dict[str, Any], good: list[str], bad: list[str]
) -> None:
    for text in good:
        assert obeys(text, [name, arguments]), text
    for text in bad:
        assert not obeys(text, [name, arguments]), text


def test_every_kind_has_a_case_a_description_and_a_plan_or_is_no_writing_rule() -> None:
    assert len(NAMES) >= 25
    assert {name for name, *_ in CASES} == set(NAMES)
    assert len({kind.ifeval_id for kind in KINDS.values()} - {""}) == 25, "the 25 instruction types of IFEval"
    for name, arguments, *_ in CASES:
        assert describe([name, arguments]).strip()
        assert KINDS[name].plan or name in ("constrained_response", "response_language")


@pytest.mark.parametrize("text", [".", "123", "...", "!!!", "a b c", "1 2 3 4", "😀 😀 😀 😀", "", "ok"])
def test_a_text_without_content_obeys_nothing(text: str) -> None:
    assert not has_content(text)
    for name, arguments, *_ in CASES:
        assert not obeys(text, [name, arguments])


def test_content_of_scripts_without_blanks_is_counted_in_letters() -> None:
    assert has_content("海は今日とても静かです。")
    assert has_content("วันนี้ทะเลสงบมาก")
    assert not has_content("海は")


def test_builders_are_seeded_and_their_descriptions_hold_their_values() -> None:
    for name in NAMES:
        first, again = (KINDS[name].build(random.Random(3), "sea") for _ in range(2))
        assert first == again
        if name != "repeat_prompt":
            described = describe([name, first])
            values = [item for value in first.values() for item in (value if isinstance(value, list) else [value])]
            if name != "response_language":
                assert all(str(value) in described for value in values), (described, values)


def test_drawn_kinds_are_compatible_and_a_draw_that_cannot_be_met_is_refused() -> None:
    names = [name for name in NAMES if name not in ("constrained_response", "response_language")]
    for seed in range(200):
        drawn = draw(random.Random(seed), sorted(BANKS)[seed % len(BANKS)], 6, names)
        assert compatible([name for name, _ in drawn])
        assert len(drawn) == 6
    assert not compatible(["title", "start_phrase"])
    assert not compatible(["title", "title"])
    with pytest.raises(ValueError, match="no 2 compatible kinds"):
        draw(random.Random(0), "sea", 2, ["english_capital", "english_lowercase"])


def test_an_unknown_kind_and_a_broken_argument_are_errors_not_verdicts() -> None:
    with pytest.raises(UserError, match="'titel' does not exist"):
        obeys(SEA, ["titel", {}])
    with pytest.raises(ValueError, match="relation 'at most'"):
        obeys(SEA, ["number_words", {"relation": "at most", "num_words": 3}])
    with pytest.raises(ValueError, match="language 'xx'"):
        obeys(SEA, ["response_language", {"language": "xx"}])


@pytest.mark.parametrize(
    ("text", "count"),
    [("One. Two! Three?", 3), ("Mr. Sea went home. He slept.", 2), ("no end", 1), ("Wait... what?", 1),
     ("I think so. I do.", 2),
     ("So did I. We left.", 2), ("He said “go.” Then he left.", 2), ("3.14 is pi.", 1), ("...", 0), ("", 0),
         ("It ended... Nobody came.", 2), ("One... two... three... four.", 1), ("Why?! Because.", 2),
         ("The answer is no. We go home.", 2), ("No. 5 is alive. He is.", 2), ("(1. do this; 2. do that) Now.", 1),
         ("Apples, pears, etc. We ate them.", 2), ("Apples, pears, etc. were eaten.", 1),
         ("He lives in the U.S. He likes it.", 2), ("He joined the U.S. Navy.", 1),
         ("J. R. Hill wrote it. I read it.", 2), ("Take plan B. We go on.", 2),
         ("We like the U.S.A. U.S.A. U.S.A. again.", 1), ("P.S. Vast camels burn.", 1)],
)  # fmt: skip
def test_sentences_are_counted(text: str, count: int) -> None:
    assert len(sentences(text)) == count


def test_words_are_runs_of_letters_and_digits() -> None:
    assert words("don't stop: ___ a_b 42") == ["don", "t", "stop", "a_b", "42"]


@pytest.mark.parametrize(
    "piece",
    ["_", ".", "* ", "*a", "-\n", "[", "<<", "<<a>>", "p.s. ", "******", "\n\n", " ", "a ", "Section 1 ", '"', "1. x\n"]
)  # fmt: skip
def test_every_check_is_quick_on_twenty_thousand_hostile_characters(piece: str) -> None:
    text = "old ships drift " + piece * (20_000 // len(piece)) + "x"
    started = time.perf_counter()
    for name, arguments, *_ in CASES:
        if name not in ("response_language", "english_lowercase", "english_capital"):  # the detector is timed elsewhere
            obeys(text, [name, arguments])
    assert time.perf_counter() - started < 3.0


@pytest.mark.parametrize(
    ("text", "count"),
    [("We like the U.S.A. again.", 1), ("The U.S.A and the UK.", 2), ("I say ALL-OVER.", 2), ("A.B Next", 1),
     ("It ends.THE rest", 1), ("I'm here", 0), ("none at all", 0)],
)  # fmt: skip
def test_capital_words_are_counted(text: str, count: int) -> None:
    def at_least(number: int) -> bool:
        return capital_word_frequency(text, capital_relation=AT_LEAST, capital_frequency=number)

    assert at_least(count)
    assert not at_least(count + 1)


@pytest.mark.parametrize("text", ["A." * 9_999 + "AB", "..." * 6_000 + "a", "No. " * 5_000, "etc." * 5_000])
def test_abbreviations_take_linear_time(text: str) -> None:
    began = time.perf_counter()
    sentences(text)
    capital_word_frequency(text, capital_relation=AT_LEAST, capital_frequency=1)
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize(
    ("text", "count"),
    [("समुद्र आज शांत है", 4), ("இன்று கடல் அமைதியாக இருக்கிறது", 4), ("قایق\u200cها برمی\u200cگردند", 2),
     ("cafe\u0301 noir", 2), ("___ _a_ don't", 3)],
)  # fmt: skip
def test_vowel_signs_and_joiners_do_not_cut_words(text: str, count: int) -> None:
    assert len(words(text)) == count
