"""A judge that is a model folder of the recipe: the real engine in its Ray actor, with verdicts set in advance."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from transformers import PreTrainedTokenizerBase

from configs.load import load_config
from data.chat import IM_END
from data.records import Score
from data.tokenizer import train_tokenizer
from learner.model_folder import engine_state_dict, export_model
from rewards.judge import JudgeConfig
from rewards.registry import get_task
from rewards.task import ScoreRequest, item_of, make_prompt
from stages.run_config import RunConfig
from stages.services import Services
from tests.integration.tiny_policies import chain, scripted, tiny_model
from tests.stages.stage_fakes import quiet_progress

pytestmark = [pytest.mark.engine, pytest.mark.integration]

RECIPE = Path(__file__).with_name("micro.yaml")
MAX_LENGTH = 4096  # a judge reads its instructions, the question and the response byte by byte here
VERDICTS = ("VERDICT: CORRECT", "VERDICT: INCORRECT")


class ScriptedJudge:
    """The model folder, and the weights with which it says one text to everything."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer: PreTrainedTokenizerBase = train_tokenizer(VERDICTS * 8, vocab_size=400)
        self.model = tiny_model(
            "qwen3", len(self.tokenizer), tied=False, seed=0, max_positions=MAX_LENGTH
        )  # untied, for its head is written
        self.folder = export_model(self.model, self.tokenizer, folder)

    def saying(self, text: str) -> dict:  # type: ignore[type-arg]
        after_the_prompt = self.tokenizer.encode("\n", add_special_tokens=False)
        ids = [*after_the_prompt, *self.tokenizer.encode(text, add_special_tokens=False)]
        assert len(set(ids)) == len(ids)  # each token has one successor
        return scripted(engine_state_dict(self.model), chain(*ids, self.tokenizer.convert_tokens_to_ids(IM_END)))


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> ScriptedJudge:
    return ScriptedJudge(tmp_path_factory.mktemp("judge") / "model")


@pytest.fixture(scope="module")
def services(judge: ScriptedJudge, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    config = dataclasses.replace(
        load_config(RunConfig, [RECIPE], []),
        judge=JudgeConfig(folder=str(judge.folder), max_model_len=MAX_LENGTH, max_tokens=16),
    )
    before = set(psutil.Process().children(recursive=True))
    services = Services(config, tmp_path_factory.mktemp("run"), quiet_progress()[0])
    yield services
    services.close()
    assert [p for p in psutil.Process().children(recursive=True) if p not in before and p.is_running()] == []


def scores(services: Services) -> list[Score]:
    """Of two answers in words of their own, which the rules leave to the judge."""
    task = get_task("open_qa")
    assert task.answer is not None
    prompts = [make_prompt(task, seed=0, index=index, difficulty=1) for index in range(2)]
    answers = [f"As far as I know it is {task.answer(item_of(prompt))}" for prompt in prompts]
    requests = [ScoreRequest("open_qa", p.messages, p.reference, a) for p, a in zip(prompts, answers, strict=True)]
    assert [task.decide(request) for request in requests] == [None, None]
    return services.scorer.score_all(requests)  # past the share of errors at which a run stops


def test_verdicts_of_the_engine_decide_and_what_is_none_is_an_error(services: Services, judge: ScriptedJudge) -> None:
    first = scores(services)  # random weights: whatever it says, it is no verdict
    assert [score.outcome for score in first] == ["error", "error"]
    pool = services._judge_pool
    assert pool is not None
    for version, (text, outcome) in enumerate(zip(VERDICTS, ("correct", "incorrect"), strict=True), start=1):
        pool.update_weights(judge.saying(text), version=version)
        assert [score.outcome for score in scores(services)] == [outcome] * 2
    pool.update_weights(judge.saying("VERDICT"), version=3)
    cut_short = scores(services)
    assert [score.outcome for score in cut_short] == ["error", "error"]
    assert "verdict" in cut_short[0].reason
