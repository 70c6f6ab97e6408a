"""A judge on engines of the recipe: started when first asked, greedy first, cut or overlong is no verdict."""

from __future__ import annotations

from data.records import Completion
from rewards.judge import Judge, JudgeConfig, JudgeQuestion, NoCompletion
from rollout.policy import GenerationRequest
from stages.judge_engine import EngineChatModel
from tests.data.byte_tokenizer import byte_tokenizer
from tests.stages.stage_fakes import FakePolicy

TOKENIZER = byte_tokenizer()
QUESTION = JudgeQuestion("Capital of France?", "Paris", "Names the city.", "It is Paris.")


class Judging(FakePolicy):
    """Judges by whether the reference stands in the fenced response; the first attempt may be unreadable."""

    def __init__(self, *, garbled_attempts: int = 0, finish: str = "stop") -> None:
        super().__init__(self._verdict)
        self.garbled_attempts, self.finish = garbled_attempts, finish

    def _verdict(self, request: GenerationRequest) -> str:
        if len(self.calls) <= self.garbled_attempts:
            return "I am not sure."
        response = TOKENIZER.decode(request.prompt_token_ids).split("begin ===")[1]
        return "<think>\nhm\n</think>\n\nVERDICT: " + ("CORRECT" if "Paris" in response else "INCORRECT") + "<|im_end|>"

    def generate(self, requests, **options) -> list[Completion]:
        from dataclasses import replace

        return [replace(c, finish_reason=self.finish) for c in super().generate(requests, **options)]


def judge(policy: Judging, **settings: int) -> tuple[Judge, list[int]]:
    starts: list[int] = []

    def start() -> tuple[Judging, object]:
        starts.append(1)
        return policy, TOKENIZER

    config = JudgeConfig(folder="judge", **settings)
    return Judge(EngineChatModel(config, start), nonce_key=b"key"), starts


def test_the_engine_starts_with_the_first_question_and_once() -> None:
    asked, starts = judge(Judging())
    assert starts == []
    right, wrong = asked.ask_all([QUESTION, JudgeQuestion("Capital of France?", "Paris", "Names the city.", "Rome")])
    assert (right.reward, wrong.reward) == (1.0, 0.0)
    asked.ask_all([QUESTION])
    assert starts == [1]


def test_a_second_attempt_samples_with_another_seed() -> None:
    policy = Judging(garbled_attempts=1)
    asked, _ = judge(policy)
    assert asked.ask_all([QUESTION])[0].reward == 1.0
    first, second = (call[0] for call in policy.calls)
    assert (first.sampling.temperature, second.sampling.temperature > 0) == (0.0, True)
    assert first.seed != second.seed


def test_a_cut_verdict_or_a_prompt_without_room_is_an_error_and_no_zero() -> None:
    cut, _ = judge(Judging(finish="length"))
    (score,) = cut.ask_all([QUESTION])
    assert (score.outcome, score.reason) == ("error", "judge: reply was cut at max_tokens")
    policy = Judging()
    full, _ = judge(policy, max_model_len=20)
    (score,) = full.ask_all([QUESTION])
    assert score.outcome == "error"
    assert "leaves no room in 20" in score.reason
    assert policy.calls == []


def test_the_order_of_conversations_is_kept_when_some_have_no_room() -> None:
    policy = Judging()
    model = EngineChatModel(JudgeConfig(folder="judge", max_model_len=120), lambda: (policy, TOKENIZER))
    short = [{"role": "user", "content": "begin === Paris"}]
    long = [{"role": "user", "content": "x" * 500}]
    answers = model.complete([long, short, long], attempt=0)
    assert [isinstance(answer, NoCompletion) for answer in answers] == [True, False, True]
    assert answers[1] == "VERDICT: CORRECT"
