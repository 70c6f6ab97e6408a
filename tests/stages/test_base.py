"""The base stage: the corpus that is trained on, the embedded model, and a foreign model that is taken in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from data.chat import chat_template
from data.records import UserError
from data.tokenizer import require_chat_tokens
from rewards.registry import get_task
from rewards.task import ScoreRequest
from stages.base import BaseConfig, TinyModelConfig, corpus_documents, run
from stages.prompts import HeldOut, PromptMix, TaskShare
from tests.stages.stage_fakes import FakeServices, prompts_of, stage_context

NOBODY = HeldOut.of([], ngram=13)
CORPUS = PromptMix(tasks={"arithmetic": TaskShare(levels=(0, 2)), "tool_call": TaskShare()})


# ---------------------------------------------------------------------------------------------- the corpus


def documents(count: int = 200, **changes: Any) -> list[str]:
    config = BaseConfig(**({"corpus": CORPUS, "num_documents": count} | changes))
    return corpus_documents(config, seed=0, held_out=NOBODY)[0]


def test_documents_are_whole_turns_or_plain_text_in_the_set_shares() -> None:
    shares = {"direct_share": 0.25, "plain_share": 0.5, "plain_tools_share": 0.8}
    found = documents(400, **shares)
    plain = [text for text in found if "<|im_start|>" not in text]
    turns = [text for text in found if "<|im_start|>" in text]
    direct = [text for text in turns if "<think>\n\n</think>\n\n" in text]
    worked = [text for text in plain if "=" in text or "use " in text]
    tools = [text for text in plain if "<tool_call>" in text]
    assert 0.15 < len(direct) / len(turns) < 0.35
    assert 0.65 < len(worked) / len(plain) < 0.85
    assert 140 < len(tools) < 180  # 0.8 of 200
    assert 75 < len(plain) - len(tools) < 125  # 0.5 of 200
    assert all(text.endswith("<|endoftext|>") for text in plain)
    assert all(text.endswith("<|im_end|>") for text in turns)
    assert documents(400, **shares) == found


def test_the_base_sees_dialogues_but_no_flags() -> None:
    dialogues = documents(100, corpus=PromptMix(tasks={"mode_flags": TaskShare(levels=(0, 1))}), plain_share=0.0)
    assert not any("/think" in text.replace("</think>", "") or "/no_think" in text for text in dialogues)
    assert sum(text.count("<|im_start|>user") > 1 for text in dialogues) > 50


def test_worked_solutions_err_at_the_set_rate() -> None:
    right = documents(100, corpus=PromptMix(tasks={"arithmetic": TaskShare()}), error_rate=0.0, plain_share=0.0)
    task = get_task("arithmetic")

    def correct(document: str) -> bool:
        question = document.split("<|im_start|>user\n")[1].split("<|im_end|>")[0]
        answer = sum(int(term) for term in question.removeprefix("Compute ").removesuffix(".").split(" + "))
        completion = document.split("<|im_start|>assistant\n")[1].removesuffix("<|im_end|>")
        messages = ({"role": "user", "content": question},)
        return task.score(ScoreRequest("arithmetic", messages, {"answer": answer}, completion)).reward == 1.0

    assert all(map(correct, right))
    wrong = documents(100, corpus=PromptMix(tasks={"arithmetic": TaskShare()}), error_rate=0.2, plain_share=0.0)
    assert 20 < sum(map(correct, wrong)) < 80  # three to five steps a document, each wrong once in five


def test_a_task_may_have_an_error_rate_of_its_own() -> None:
    mix = PromptMix(tasks={"arithmetic": TaskShare(), "long_retrieval": TaskShare()})
    settings = {"corpus": mix, "error_rate": 0.0, "plain_share": 0.0, "direct_share": 0.0}
    plain, changed = documents(60, **settings), documents(60, **settings, error_rates={"long_retrieval": 1.0})
    differing = [new for old, new in zip(plain, changed, strict=True) if old != new]
    assert len(differing) == 30
    assert all("Code of" in document for document in differing)


def test_episodes_are_laid_out_as_they_are_rolled_out() -> None:
    found = documents(30, corpus=PromptMix(tasks={"tool_use": TaskShare()}), error_rate=0.0, direct_share=0.5)
    assert all(document.endswith("<|im_end|>") for document in found)
    assert all("<tool_response>" in document for document in found)
    assert {document.count("<think>\n\n</think>") for document in found} == {0, 2}  # both modes, on every turn


def test_held_out_questions_are_not_in_the_corpus() -> None:
    config = BaseConfig(corpus=PromptMix(tasks={"mode_flags": TaskShare()}), num_documents=100)
    drawn, _ = corpus_documents(config, seed=0, held_out=NOBODY)
    gate = HeldOut.of(prompts_of("mode_flags", 30, seed=5), ngram=13)
    clean, dropped = corpus_documents(config, seed=0, held_out=gate)
    assert (len(drawn), len(clean) + dropped["mode_flags"]) == (100, 100)


def test_a_task_without_worked_solutions_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(vars(get_task("arithmetic")), "work", None)
    with pytest.raises(UserError, match=r"^base\.corpus\.tasks: 'arithmetic' has no worked-solution generator"):
        documents(5)


# ---------------------------------------------------------------------------------------------- the embedded model


TINY = TinyModelConfig(
    vocab_size=300, hidden_size=32, intermediate_size=48, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=32
)


def test_the_embedded_model_is_an_ordinary_folder_of_the_asked_shape(tmp_path: Path) -> None:
    context, _ = stage_context(tmp_path, "base")
    services = FakeServices()
    run(BaseConfig(corpus=CORPUS, num_documents=40, model=TINY), None, services, context, NOBODY)  # type: ignore[arg-type]
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "initial")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "initial")
    assert type(model).__name__ == "Qwen3ForCausalLM"
    assert (model.config.hidden_size, model.config.num_hidden_layers, model.config.tie_word_embeddings) == (32, 2, True)
    assert model.config.vocab_size == len(tokenizer) <= 300
    assert model.config.eos_token_id == tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    assert tokenizer.chat_template == chat_template()
    require_chat_tokens(tokenizer, "")
    assert services.learner.loaded[0][0] == str(tmp_path / "initial")
    assert sum(map(len, services.learner.batches)) == 40


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (BaseConfig(corpus=CORPUS, error_rate=1.5), "error_rate: 1.5 must lie in [0, 1]"),
        (BaseConfig(corpus=CORPUS, num_documents=0), "num_documents: 0 must be 1 or more"),
        (BaseConfig(corpus=CORPUS, error_rates={"arithmetic": 2.0}), "error_rates.arithmetic: 2.0 must lie in [0, 1]"),
        (BaseConfig(corpus=CORPUS, error_rates={"chat": 0.1}), "error_rates.chat: is no task of the corpus"),
        (BaseConfig(corpus=CORPUS, licence="Apache 2"), "licence: 'Apache 2' is no SPDX identifier"),
        (BaseConfig(), "corpus: null leaves nothing to train on"),
        (TinyModelConfig(num_layers=0), "num_layers: 0 must be 1 or more"),
        (TinyModelConfig(num_heads=4, num_kv_heads=3), "num_kv_heads: 3 must divide num_heads=4"),
        (TinyModelConfig(initializer_range=0.0), "initializer_range: 0.0 must be above 0"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(config: BaseConfig | TinyModelConfig, message: str) -> None:
    with pytest.raises(UserError) as caught:
        config.validate()
    assert str(caught.value).startswith(message)
