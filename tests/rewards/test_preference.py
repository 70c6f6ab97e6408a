"""From raw scores to rewards: the length calibration, its properties, and what is not a number."""

from __future__ import annotations

import dataclasses
import json
import math
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.records import Message, UserError
from rewards.preference import (
    LengthCalibration,
    LengthControlledPreference,
    PreferenceConfig,
    answer_length,
    fit_length_calibration,
    group_diversity,
    length_controlled_reward,
    pair_accuracy,
    preference_rewards,
    read_calibration,
)

CALIBRATION = LengthCalibration(
    slope=2.0, fitted_slope=2.0, log_length_ref=math.log(100), mean=1.0, std=0.5, num_pairs=10
)
SCORES = st.floats(-1e6, 1e6)
LENGTHS = st.integers(1, 20_000)


@pytest.mark.parametrize(
    ("raw", "length", "reward"),
    [
        (1.0, 100, 0.5),  # the mean score at the reference length
        (1.5, 100, 1 / (1 + math.exp(-1))),  # one deviation above
        (1.0 + 2 * math.log(2), 200, 0.5),  # twice as long: the slope takes exactly that back
        (1.0, 200, 1 / (1 + math.exp(4 * math.log(2)))),  # an equal score at twice the length: 1/17
    ],
)
def test_golden_rewards(raw: float, length: int, reward: float) -> None:
    assert length_controlled_reward(raw, length, CALIBRATION) == pytest.approx(reward)


@given(SCORES, SCORES, LENGTHS)
def test_the_reward_never_falls_when_the_score_rises(left: float, right: float, length: int) -> None:
    low, high = sorted((left, right))
    rewards = [length_controlled_reward(raw, length, CALIBRATION) for raw in (low, high)]
    assert rewards[0] <= rewards[1]


@given(SCORES, LENGTHS, LENGTHS, st.floats(0, 100))
def test_at_an_equal_score_the_longer_answer_never_earns_more(raw: float, a: int, b: int, slope: float) -> None:
    calibration = dataclasses.replace(CALIBRATION, slope=slope)
    short, long = (length_controlled_reward(raw, length, calibration) for length in sorted((a, b)))
    assert long <= short


@given(SCORES, LENGTHS)
def test_the_reward_lies_strictly_between_zero_and_one(raw: float, length: int) -> None:
    assert 0.0 < length_controlled_reward(raw, length, CALIBRATION) < 1.0


def _world(slope: float, quality: float, longer: float, num_pairs: int = 400) -> tuple[list[float], ...]:
    """Pairs with a hidden liking for length; the better answer is the longer one with probability `longer`."""
    rng = random.Random(0)
    columns: tuple[list, ...] = ([], [], [], [])
    for _ in range(num_pairs):
        prompt, sizes = rng.gauss(0, 3), sorted((rng.randint(5, 400), rng.randint(5, 400)))
        if rng.random() < longer:
            sizes.reverse()
        for offset, (size, bonus) in enumerate(zip(sizes, (quality, 0.0), strict=True)):
            columns[offset].append(prompt + bonus + slope * math.log(size) + rng.gauss(0, 0.1))
            columns[offset + 2].append("x" * size)
    return columns


@pytest.mark.parametrize("longer", [0.5, 0.95])
def test_the_slope_is_found_within_prompts_even_when_better_answers_are_longer(longer: float) -> None:
    calibration = fit_length_calibration(*_world(0.7, 2.0, longer))
    assert calibration.slope == calibration.fitted_slope == pytest.approx(0.7, abs=0.05)
    assert calibration.num_pairs == 400


def test_rewards_of_the_calibration_pairs_are_standardised_and_free_of_length() -> None:
    chosen, rejected, chosen_answers, rejected_answers = _world(0.7, 0.0, 0.5)
    c = fit_length_calibration(chosen, rejected, chosen_answers, rejected_answers)  # type: ignore[arg-type]
    logits = []
    for raw, answer in zip(chosen + rejected, chosen_answers + rejected_answers, strict=True):
        reward = length_controlled_reward(raw, answer_length(answer), c)  # type: ignore[arg-type]
        logits.append(math.log(reward / (1 - reward)))
    assert sum(logits) / len(logits) == pytest.approx(0.0, abs=1e-6)
    assert sum(value**2 for value in logits) / len(logits) == pytest.approx(1.0, abs=1e-6)
    gaps = [logits[i] - logits[i + 400] for i in range(400)]
    signs = [len(chosen_answers[i]) > len(rejected_answers[i]) for i in range(400)]  # type: ignore[arg-type]
    longer = [gap for gap, sign in zip(gaps, signs, strict=True) if sign]
    assert sum(longer) / len(longer) == pytest.approx(0.0, abs=0.02)


def test_a_liking_for_short_answers_is_reported_and_never_turned_into_pay_for_length() -> None:
    calibration = fit_length_calibration(*_world(-0.7, 2.0, 0.5))  # type: ignore[arg-type]
    assert calibration.fitted_slope == pytest.approx(-0.7, abs=0.05)
    assert calibration.slope == 0.0


@pytest.mark.parametrize(
    ("chosen", "rejected"), [([], []), ([math.nan], [0.0]), ([1.0, 1.0], [1.0, 1.0]), ([math.inf], [0.0])]
)
def test_a_calibration_that_says_nothing_is_refused(chosen: list[float], rejected: list[float]) -> None:
    answers = ["a"] * len(chosen)
    with pytest.raises(UserError, match="preference model: "):
        fit_length_calibration(chosen, rejected, answers, answers)


def test_answers_of_one_length_have_slope_zero() -> None:
    assert fit_length_calibration([1.0, 2.0], [0.0, 0.0], ["ab", "cd"], ["ef", "gh"]).fitted_slope == 0.0


def test_white_space_does_not_lengthen_an_answer_and_marks_do() -> None:
    assert answer_length(" a \n\n  b ") == 3
    assert answer_length("a b!!!") == 6
    assert answer_length("  ") == 1


def test_no_number_is_an_error_and_never_a_low_reward() -> None:
    scores = preference_rewards([1.0, math.nan, math.inf, -math.inf], ["x" * 100] * 4, CALIBRATION)
    assert [score.outcome for score in scores] == ["graded", "error", "error", "error"]
    assert scores[0].reward == pytest.approx(0.5)
    assert scores[1].reason == "the preference model gave nan"


class _LikesTea:
    def raw_scores(self, conversations: Sequence[Sequence[Message]]) -> list[float]:
        return [float("tea" in conversation[-1]["content"]) for conversation in conversations]


def test_conversations_are_rated_by_their_last_turn() -> None:
    rating = LengthControlledPreference(_LikesTea(), dataclasses.replace(CALIBRATION, slope=0.0))
    user = {"role": "user", "content": "tea?"}
    scores = rating.rate_all([[user, {"role": "assistant", "content": text}] for text in ("tea", "no")])
    assert [score.reward for score in scores] == pytest.approx([0.5, 1 / (1 + math.exp(2))])


def test_a_calibration_comes_back_from_its_manifest(tmp_path: Path) -> None:
    (tmp_path / "preference_model.json").write_text(json.dumps({"calibration": CALIBRATION.as_json()}))
    assert read_calibration(tmp_path) == CALIBRATION


@pytest.mark.parametrize("text", [None, "{}", '{"calibration": {"slope": 1}}', "[]"])
def test_a_folder_without_a_calibration_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "preference_model.json").write_text(text)
    with pytest.raises(UserError, match=r"preference\.folder: .* length calibration"):
        read_calibration(tmp_path)


def test_accuracy_shows_a_liking_for_length() -> None:
    answers = (["long answer", "a", "long answer", "b"], ["x", "long one", "y", "long two"])
    accuracy = pair_accuracy([2.0, 0.0, 2.0, 1.0], [1.0, 1.0, 1.0, 1.0], *answers)
    assert (accuracy.all, accuracy.chosen_longer, accuracy.chosen_shorter) == (0.625, 1.0, 0.25)
    assert pair_accuracy([1.0], [0.0], ["aa"], ["a"]).chosen_shorter is None


def test_diversity_of_a_template_is_zero_and_of_strangers_one() -> None:
    assert group_diversity(["a calm sea at night"] * 4) == 0.0
    assert group_diversity(["a b c d e", "f g h i j"]) == 1.0
    half = group_diversity(["a calm sea at night", "a calm sea by day"])
    # n=1: 3 of 5 shared; n=2: 2 of 4; n=3: 1 of 3; n=4: 0 of 2.
    assert half == pytest.approx(1 - (3 / 5 + 2 / 4 + 1 / 3 + 0) / 4)
    assert group_diversity(["alone"]) == 1.0
    assert group_diversity(["", ""]) == 0.0


@pytest.mark.parametrize(
    ("field", "value"),
    [("folder", " "), ("dtype", "int8"), ("num_threads", -1), ("num_gpus", -0.5), ("answer_timeout_s", 0.0)],
)
def test_a_setting_that_cannot_work_is_named(field: str, value: object) -> None:
    with pytest.raises(UserError, match=f"{field}: "):
        dataclasses.replace(PreferenceConfig(), **{field: value}).validate()  # type: ignore[arg-type]
