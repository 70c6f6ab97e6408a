"""A rollout to read holds its tokens as the model saw them and says which of them carry loss."""

from __future__ import annotations

from data.records import Completion, Prompt, Score, Segment, VersionSpan
from data.sample_rows import TokenPieces, rendered_parts, rollout_row, shortened


class Letters:
    """One letter a token; counts what it decodes."""

    def __init__(self) -> None:
        self.num_decoded = 0

    def decode(self, ids: list[int]) -> str:
        self.num_decoded += 1
        return "".join(map(chr, ids))


def ids(text: str) -> tuple[int, ...]:
    return tuple(map(ord, text))


def completion(prompt: str, text: str, forced: str = "", earlier: tuple[Segment, ...] = ()) -> Completion:
    marks = tuple(letter in forced for letter in text)
    spans = (VersionSpan(0, 0, len(text)),)
    return Completion("u", 0, ids(prompt), ids(text), (-1.0,) * len(text), marks, "stop", spans, text, earlier=earlier)


def test_prompt_and_forced_tokens_carry_no_loss() -> None:
    (part,) = rendered_parts(completion("ab", "cde", forced="d"), TokenPieces(Letters()))
    assert part == {"pieces": ["a", "b", "c", "d", "e"], "loss_mask": "00101"}


def test_an_episode_whose_history_was_rendered_anew_has_a_part_for_each() -> None:
    earlier = Segment(ids("p"), ids("q"), (-1.0,), (False,), (VersionSpan(0, 0, 1),))
    parts = rendered_parts(completion("r", "s", earlier=(earlier,)), TokenPieces(Letters()))
    assert [part["pieces"] for part in parts] == [["p", "q"], ["r", "s"]]


def test_a_long_part_keeps_both_ends_and_counts_the_gap() -> None:
    (part,) = rendered_parts(completion("abcd", "efghij"), TokenPieces(Letters()), most=5)
    assert part == {"pieces": ["a", "b", "c", "i", "j"], "loss_mask": "00011", "left_out": [3, 5]}
    (whole,) = rendered_parts(completion("abc", "de"), TokenPieces(Letters()), most=5)
    assert "left_out" not in whole


def test_a_token_is_decoded_once() -> None:
    letters = Letters()
    pieces = TokenPieces(letters)
    assert pieces(ids("abab")) + pieces(ids("ba")) == ["a", "b", "a", "b", "b", "a"]
    assert letters.num_decoded == 2


def test_a_row_names_its_benchmark_only_where_it_has_one() -> None:
    prompt = Prompt(uid="u", task="math", messages=({"role": "user", "content": "1+1?"},), reference=2)
    told = {"stage": "s", "step": 3, "pieces": TokenPieces(Letters())}
    row = rollout_row(prompt, completion("a", "2"), Score.correct(), **told)
    assert "benchmark" not in row
    assert (row["step"], row["reward"], row["completion"]) == (3, 1.0, "2")
    assert rollout_row(prompt, completion("a", "2"), Score.correct(), benchmark="b", **told)["benchmark"] == "b"


def test_long_texts_of_a_reference_keep_both_ends() -> None:
    reference = {"answer": 7, "tests": ["abcdefghij", "abcde"], "none": None}
    assert shortened(reference, most=5) == {
        "answer": 7, "tests": ["abc[… 5 characters left out …]ij", "abcde"], "none": None,
    }  # fmt: skip
    prompt = Prompt(uid="u", task="math", messages=({"role": "user", "content": "?"},), reference={"a": "x" * 30_000})
    row = rollout_row(prompt, completion("a", "2"), Score.correct(), stage="s", step=1, pieces=TokenPieces(Letters()))
    assert len(row["reference"]["a"]) < 21_000
