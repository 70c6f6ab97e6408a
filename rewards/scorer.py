"""From completions to scores: rules first, then the judge or the preference model for what rules leave undecided.

    ScoreRequest -> VerifierPool (rules, some in killable processes) -> Judge | preference model -> Score

Scoring overlaps generation: `begin` opens a batch, `add` takes completions as they finish, `finish` waits for the rest.
Rules are decided in `add` or run in worker processes from then on, judges are asked from a thread of their own. A
preference model rates all its answers of a batch in one call and in an order of their own, so that its bits do not hang
on which of them was sampled first: in the background as soon as the last one is there, when `begin` was told how many
will come, else in `finish`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from data.chat import parse_completion
from data.records import Message, Score
from rewards.extract import parse_request
from rewards.judge import JudgeQuestion
from rewards.registry import get_task
from rewards.task import ScoreRequest
from rewards.verifier_pool import VerifierPool


class AsksJudge(Protocol):
    """What the scorer needs of a judge (`rewards.judge.Judge`)."""

    def ask_all(self, questions: Sequence[JudgeQuestion]) -> list[Score]: ...


class RatesConversations(Protocol):
    """What the scorer needs of a preference model: a reward in [0, 1] for each conversation, or an error."""

    def rate_all(self, conversations: Sequence[Sequence[Message]]) -> list[Score]: ...


class Scorer:
    """Scores completions of all tasks; `judge` and `preference` may be left out when no task needs them."""

    def __init__(
        self,
        verifiers: VerifierPool,
        *,
        judge: AsksJudge | None = None,
        preference: RatesConversations | None = None,
    ) -> None:
        self.verifiers = verifiers
        self.judge = judge
        self.preference = preference
        self._threads: dict[str, ThreadPoolExecutor] = {}

    def score_all(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """One score per request, in order; a verifier, judge or model that fails yields an error, never a zero."""
        batch = self.begin()
        batch.add(requests)
        return batch.finish()

    def begin(self, *, num_preference: int | None = None) -> ScoringBatch:
        """A batch that takes requests as they come; `num_preference` of them will be of preference-model tasks."""
        return ScoringBatch(self, num_preference)

    def ask_judge(self, questions: Sequence[JudgeQuestion]) -> Future[list[Score]]:
        """Ask in the background."""
        assert self.judge is not None
        return self._in_background("judge").submit(self.judge.ask_all, questions)

    def rate(self, conversations: Sequence[Sequence[Message]]) -> Future[list[Score]]:
        """Let the preference model rate in the background."""
        assert self.preference is not None
        return self._in_background("preference").submit(self.preference.rate_all, conversations)

    def _in_background(self, name: str) -> ThreadPoolExecutor:
        """One thread for each of them, so that batches are answered in order."""
        if name not in self._threads:
            self._threads[name] = ThreadPoolExecutor(1, thread_name_prefix=name)
        return self._threads[name]

    def close(self) -> None:
        """End the verifier processes and the background threads; may be called twice."""
        for thread in self._threads.values():
            thread.shutdown(wait=True, cancel_futures=True)
        self._threads = {}
        self.verifiers.close()


class ScoringBatch:
    """Requests that are being scored; `finish` gives their scores in the order in which they were added."""

    def __init__(self, scorer: Scorer, num_preference: int | None = None) -> None:
        self._scorer = scorer
        self._num_preference = num_preference
        self._requests: list[ScoreRequest] = []
        self._verdicts: list[Callable[[], Score | None]] = []
        self._asked: dict[int, tuple[Future[list[Score]], int]] = {}
        self._decided: dict[int, Score | None] = {}
        self._preference: list[int] = []
        self._rated: tuple[list[int], Future[list[Score]]] | None = None

    def add(self, requests: Sequence[ScoreRequest]) -> None:
        """Begin to score more requests."""
        first = len(self._requests)
        self._requests += requests
        self._verdicts += self._scorer.verifiers.submit(requests)
        undecided = [
            index
            for index in range(first, len(self._requests))
            if not get_task(self._requests[index].task).in_worker and self._verdict(index) is None
        ]
        self._ask(undecided)
        new = range(first, len(self._requests))
        self._preference += [i for i in new if get_task(self._requests[i].task).reward_type == "preference_model"]
        if len(self._preference) == self._num_preference and self._rated is None:
            self._begin_rating()

    def finish(self) -> list[Score]:
        """Wait for every verdict."""
        everything = range(len(self._requests))
        self._ask([index for index in everything if self._verdict(index) is None and index not in self._asked])
        rated = self._ratings()
        return [self._verdict(index) or rated.get(index) or self._judged(index) for index in everything]

    def _verdict(self, index: int) -> Score | None:
        if index not in self._decided:
            self._decided[index] = self._verdicts[index]()
        return self._decided[index]

    def _ask(self, indices: Sequence[int]) -> None:
        """Put the questions of judged tasks to the judge, in the background."""
        if self._scorer.judge is None:
            return
        questions, asked = [], []
        for index in indices:
            request = self._requests[index]
            ask = get_task(request.task).judge_question
            if ask is None:
                continue
            try:
                questions.append(ask(request, parse_request(request)))
                asked.append(index)
            except Exception as error:  # the task's own code failed, which says nothing about the answer
                self._decided[index] = Score.error(f"judge_question raised {type(error).__name__}: {error}")
        if questions:
            future = self._scorer.ask_judge(questions)
            self._asked |= {index: (future, position) for position, index in enumerate(asked)}

    def _judged(self, index: int) -> Score:
        if index not in self._asked:
            task = get_task(self._requests[index].task)
            needs = "a judge (see judge.*)" if task.judge_question else "a preference model (see preference.*)"
            return Score.error(f"task {task.name!r} needs {needs} for this answer, and none is configured")
        future, position = self._asked[index]
        try:
            return future.result()[position]
        except Exception as error:
            return Score.error(f"judge raised {type(error).__name__}: {error}")

    def _begin_rating(self) -> None:
        """Let the preference model begin with its answers, all of which are there."""
        mine = self._undecided_preference()
        if self._scorer.preference is not None and mine:
            self._rated = mine, self._scorer.rate([_conversation(self._requests[index]) for index in mine])

    def _undecided_preference(self) -> list[int]:
        """The answers for the preference model, in an order that does not hang on when they came."""
        mine = [index for index in self._preference if self._verdict(index) is None]
        return sorted(mine, key=lambda index: (repr(self._requests[index].messages), self._requests[index].completion))

    def _ratings(self) -> dict[int, Score]:
        """What the preference model says, by the index of the request."""
        model = self._scorer.preference
        mine = self._rated[0] if self._rated else self._undecided_preference()
        if model is None or not mine:
            return {}
        try:
            conversations = [_conversation(self._requests[index]) for index in mine]
            scores = self._rated[1].result() if self._rated else model.rate_all(conversations)
        except Exception as error:
            scores = [Score.error(f"preference model raised {type(error).__name__}: {error}")] * len(mine)
        return dict(zip(mine, scores, strict=True))


def _conversation(request: ScoreRequest) -> list[Message]:
    """The prompt and the answer without its thinking, which is not the model's to judge."""
    answer = parse_completion(request.completion, prefilled=request.enable_thinking is False).answer
    return [*request.messages, {"role": "assistant", "content": answer}]
