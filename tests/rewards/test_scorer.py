"""Rules before models, three outcomes everywhere, and scoring that goes on while completions still come in."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from data.episodes import ENVIRONMENT_ERROR
from data.records import Message, Score
from rewards import registry
from rewards.judge import JudgeQuestion
from rewards.registry import get_task
from rewards.scorer import Scorer
from rewards.task import ScoreRequest, Task
from rewards.verifier_pool import VerifierPool


class StubJudge:
    """Says right when the response names the reference; fails on "crash", is unreadable on "garble"."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.threads: set[int] = set()

    def ask_all(self, questions: Sequence[JudgeQuestion]) -> list[Score]:
        self.threads.add(threading.get_ident())
        self.asked += [question.response for question in questions]
        if any("crash" in question.response for question in questions):
            raise RuntimeError("no endpoint")
        return [
            Score.error("unparsable verdict") if "garble" in q.response else Score.of(float(q.reference in q.response))
            for q in questions
        ]


class StubPreference:
    def __init__(self) -> None:
        self.seen: list[list[Message]] = []

    def rate_all(self, conversations: Sequence[Sequence[Message]]) -> list[Score]:
        self.seen += [list(conversation) for conversation in conversations]
        return [Score.of(0.25 + 0.5 * ("kind" in str(conversation[-1]["content"]))) for conversation in conversations]


def _gate(request: ScoreRequest, parsed: Any) -> Score | None:
    return Score.incorrect("gate") if parsed.answer.startswith("bad") else None


@pytest.fixture(autouse=True)
def _tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A judged and a preferred task beside the real ones."""
    base = get_task("arithmetic")
    known = dict(registry._tasks)
    judged: Task = replace(
        base, name="judged", reward_type="judge_with_reference", verify=_gate,
        judge_question=lambda request, parsed: JudgeQuestion("q", str(request.reference["answer"]), "c", parsed.answer),
    )  # fmt: skip
    broken = replace(judged, name="broken_question", judge_question=lambda request, parsed: request.reference["absent"])
    preferred = replace(base, name="preferred", reward_type="preference_model", verify=_gate)
    monkeypatch.setattr(registry, "_tasks", known | {t.name: t for t in (judged, broken, preferred)})


@pytest.fixture
def pool() -> Iterator[VerifierPool]:
    with VerifierPool(timeout_s=3.0) as pool:
        yield pool


def _request(task: str, completion: str, answer: Any = "7", **more: Any) -> ScoreRequest:
    return ScoreRequest(task, ({"role": "user", "content": "q"},), {"answer": answer}, completion, **more)


def test_rules_decide_first_and_models_only_see_what_passed_the_gate(pool: VerifierPool) -> None:
    judge, preference = StubJudge(), StubPreference()
    scorer = Scorer(pool, judge=judge, preference=preference)
    scores = scorer.score_all(
        [
            _request("arithmetic", "7", 7),
            _request("judged", "bad 7"),
            _request("judged", "it is 7"),
            _request("judged", "it is 8"),
            _request("preferred", "bad kind"),
            _request("preferred", "<think>\nx y z\n</think>\n\na kind reply"),
            _request("preferred", "a reply"),
        ]
    )
    scorer.close()
    assert [score.reward for score in scores] == [1.0, 0.0, 1.0, 0.0, 0.0, 0.75, 0.25]
    assert [score.outcome for score in scores[4:]] == ["incorrect", "graded", "graded"]
    assert judge.asked == ["it is 7", "it is 8"]
    assert [conversation[-1]["content"] for conversation in preference.seen] == ["a kind reply", "a reply"]
    assert judge.threads == judge.threads - {threading.get_ident()}, "the judge is asked in the background"


def test_what_a_model_cannot_say_is_an_error_and_leaves_the_others_alone(pool: VerifierPool) -> None:
    scorer = Scorer(pool, judge=StubJudge())
    first, second = scorer.score_all([_request("judged", "garble 7"), _request("judged", "7!")])
    assert (first.outcome, first.reward, second.reward) == ("error", None, 1.0)
    crashed, right = scorer.score_all([_request("judged", "crash 7"), _request("arithmetic", "7", 7)])
    assert (crashed.outcome, crashed.reason, right.reward) == ("error", "judge raised RuntimeError: no endpoint", 1.0)
    (broken,) = scorer.score_all([_request("broken_question", "7")])
    assert (broken.outcome, broken.reason) == ("error", "judge_question raised KeyError: 'absent'")
    scorer.close()


def test_without_a_judge_or_model_an_undecided_answer_is_an_error_that_names_the_setting(pool: VerifierPool) -> None:
    judged, preferred, refused = Scorer(pool).score_all(
        [_request("judged", "7"), _request("preferred", "kind"), _request("judged", "bad")]
    )
    assert (judged.outcome, preferred.outcome, refused.outcome) == ("error", "error", "incorrect")
    assert "judge.*" in judged.reason
    assert "preference.*" in preferred.reason


def test_a_failed_environment_is_an_error_even_when_the_last_turn_looks_right(pool: VerifierPool) -> None:
    (score,) = Scorer(pool).score_all([_request("arithmetic", "7", 7, ended=f"{ENVIRONMENT_ERROR}: KeyError")])
    assert (score.outcome, score.reward, score.reason) == ("error", None, "environment error: KeyError")


def test_a_batch_scores_while_completions_still_come_in_and_keeps_their_order(pool: VerifierPool) -> None:
    judge = StubJudge()
    scorer = Scorer(pool, judge=judge)
    batch = scorer.begin()
    batch.add([_request("judged", "7"), _request("arithmetic", "8", 7)])
    batch.add([_request("math", "\\boxed{0.5}", "\\frac{1}{2}")])
    scorer._threads["judge"].submit(lambda: None).result()  # behind the first question
    assert judge.asked == ["7"], "asked before the batch was closed"
    assert pool.worker_pids(), "the worker runs before the batch was closed"
    batch.add([_request("judged", "9"), _request("arithmetic", "7", 7)])
    assert [score.reward for score in batch.finish()] == [1.0, 0.0, 1.0, 0.0, 1.0]
    scorer.close()
    assert pool.worker_pids() == ()


def test_the_preference_model_begins_with_its_last_answer_and_sees_them_in_an_order_of_their_own(
    pool: VerifierPool,
) -> None:
    answers = ["a reply", "a kind reply", "bad reply", "b reply"]
    seen = []
    for order in ([0, 1, 2, 3], [3, 2, 1, 0]):
        preference = StubPreference()
        scorer = Scorer(pool, preference=preference)
        batch = scorer.begin(num_preference=4)
        first, *others = order
        batch.add([_request("preferred", answers[first])])
        batch.add([_request("arithmetic", "7", 7), *(_request("preferred", answers[index]) for index in others)])
        scorer._threads["preference"].submit(lambda: None).result()
        assert preference.seen, "rated before the batch was closed"
        batch.add([_request("arithmetic", "8", 7)])
        rewards = {0: 0.25, 1: 0.75, 2: 0.0, 3: 0.25}
        expected = [rewards[first], 1.0, *(rewards[index] for index in others), 0.0]
        assert [score.reward for score in batch.finish()] == expected
        scorer.close()
        seen.append([conversation[-1]["content"] for conversation in preference.seen])
    assert seen[0] == seen[1] == ["a kind reply", "a reply", "b reply"]


def test_a_thousand_right_answers_at_once_are_all_right_however_long_the_queue_is() -> None:
    with VerifierPool(num_workers=2, timeout_s=2.0) as pool:
        requests = [
            _request("math", f"\\boxed{{{2 * n}/{2 * n + 2}}}", f"\\frac{{{n}}}{{{n + 1}}}") for n in range(1, 1001)
        ]
        scores = Scorer(pool).score_all(requests)
    assert [score for score in scores if score.reward != 1.0] == []
