"""The base stage: the corpus that is trained on, the embedded model, and a foreign model that is taken in."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from data.chat import SPECIAL_TOKENS, chat_template
from data.records import UserError
from data.tokenizer import require_chat_tokens
from learner.learner import Learner, LearnerConfig
from rewards.registry import get_task
from rewards.task import ScoreRequest
from stages.base import BaseConfig, ImportConfig, TinyModelConfig, corpus_documents, import_model, run
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


def test_held_out_questions_are_not_in_the_corpus() -> None:
    config = BaseConfig(corpus=PromptMix(tasks={"mode_flags": TaskShare()}), num_documents=100)
    drawn, _ = corpus_documents(config, seed=0, held_out=NOBODY)
    gate = HeldOut.of(prompts_of("mode_flags", 30, seed=5), ngram=13)
    clean, dropped = corpus_documents(config, seed=0, held_out=gate)
    assert (len(drawn), len(clean) + dropped) == (100, 100)


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


# ---------------------------------------------------------------------------------------------- a foreign model


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with a byte tokenizer that has never heard of chat."""
    folder = tmp_path_factory.mktemp("llama") / "model"
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={symbol: index for index, symbol in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=256, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=False,
    )  # fmt: skip
    LlamaForCausalLM(shape).save_pretrained(folder)
    return folder


def test_a_foreign_model_gets_the_chat_tokens_and_rows_for_them_and_that_is_said(llama: Path, tmp_path: Path) -> None:
    said = import_model(ImportConfig(folder=str(llama)), tmp_path / "out")
    assert said == [
        "base: embeddings resized from 256 to 265 rows",
        f"base: added 9 tokens that the tokenizer lacked: {' '.join(SPECIAL_TOKENS)}",
    ]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    require_chat_tokens(tokenizer, "")
    assert tokenizer.chat_template == chat_template()
    assert tokenizer.eos_token == "<|im_end|>"
    before = AutoModelForCausalLM.from_pretrained(llama, dtype=torch.float32)
    after = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert type(after).__name__ == "LlamaForCausalLM"
    assert after.lm_head.weight.shape == (265, 32)
    assert torch.equal(after.model.embed_tokens.weight[:256], before.model.embed_tokens.weight)
    assert torch.equal(after.model.layers[1].mlp.up_proj.weight, before.model.layers[1].mlp.up_proj.weight)
    assert after.config.eos_token_id == tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])


def test_an_added_row_starts_at_the_mean_of_the_pieces_it_was_written_with(llama: Path, tmp_path: Path) -> None:
    import_model(ImportConfig(folder=str(llama)), tmp_path / "out")
    pieces = AutoTokenizer.from_pretrained(llama).encode("<think>", add_special_tokens=False)
    assert len(pieces) == 7  # a byte tokenizer
    (row,) = AutoTokenizer.from_pretrained(tmp_path / "out").encode("<think>", add_special_tokens=False)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    for layer in (model.model.embed_tokens, model.lm_head):
        torch.testing.assert_close(layer.weight[row], layer.weight[pieces].mean(dim=0))


def test_an_imported_model_loads_in_the_learner_and_old_text_keeps_its_logprobs(llama: Path, tmp_path: Path) -> None:
    import_model(ImportConfig(folder=str(llama)), tmp_path / "out")
    row = [10, 20, 30, 40, 50]
    imported = Learner(tmp_path / "out", LearnerConfig()).logprobs([row])[0]
    model = AutoModelForCausalLM.from_pretrained(llama, dtype=torch.float32)
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)(torch.tensor([row])).logits
        old = model(torch.tensor([row])).logits
    torch.testing.assert_close(logits[..., :256], old)  # the new rows add entries and change none
    expected = logits[0].log_softmax(-1)[range(4), row[1:]]
    torch.testing.assert_close(torch.tensor(imported[1:]), expected, atol=1e-5, rtol=0)


def test_a_model_that_has_everything_is_taken_in_without_a_word(llama: Path, tmp_path: Path) -> None:
    import_model(ImportConfig(folder=str(llama)), tmp_path / "once")
    assert import_model(ImportConfig(folder=str(tmp_path / "once")), tmp_path / "twice") == []
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (tmp_path / "once" / name).read_bytes() == (tmp_path / "twice" / name).read_bytes()


def test_the_stage_says_what_it_added_and_trains_nothing(llama: Path, tmp_path: Path) -> None:
    config = BaseConfig(import_from=ImportConfig(folder=str(llama)))
    config.validate()
    services = FakeServices()
    context, said = stage_context(tmp_path, "base")
    assert run(config, None, services, context, NOBODY) == {}  # type: ignore[arg-type]
    assert "base: added 9 tokens that the tokenizer lacked" in said.getvalue()
    assert services.learner.batches == []
    assert services.learner.loaded[0][0] == str(tmp_path / "initial")
    context, said = stage_context(tmp_path, "base")
    run(config, None, services, context, NOBODY)  # type: ignore[arg-type]
    assert said.getvalue() == ""  # it is there already


BROKEN = {
    "tokenizer.json": "the tokenizer of",
    "config.json": "config.json does not load",
    "model.safetensors": "weights do not load",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_is_refused_by_name_and_leaves_nothing(llama: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(llama, tmp_path / "model")
    (folder / name).write_text("{")
    with pytest.raises(UserError, match=BROKEN[name]) as caught:
        import_model(ImportConfig(folder=str(folder)), tmp_path / "out")
    assert str(folder) in str(caught.value)
    (folder / name).unlink()
    with pytest.raises(UserError, match=r"base\.import_from\.folder: .* holds no"):
        import_model(ImportConfig(folder=str(folder)), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_another_architecture_is_refused_with_those_that_are_taken(llama: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(llama, tmp_path / "model")
    config = (folder / "config.json").read_text().replace("LlamaForCausalLM", "OtherForCausalLM")
    (folder / "config.json").write_text(config)
    with pytest.raises(UserError, match=r"OtherForCausalLM.* is not supported; use Qwen3ForCausalLM or LlamaFor"):
        import_model(ImportConfig(folder=str(folder)), tmp_path / "out")


def test_a_source_that_names_nothing_or_a_package_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give `folder`"):
        import_model(ImportConfig(), tmp_path / "out")
    with pytest.raises(UserError, match="'no_such_package' is not installed"):
        import_model(ImportConfig(package="no_such_package"), tmp_path / "out")
    with pytest.raises(UserError, match=r"'json' holds no \*\.gguf file"):
        import_model(dataclasses.replace(ImportConfig(), package="json"), tmp_path / "out")
