"""A foreign model that is taken in: what is added, what stays, and what is refused."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from data.chat import SPECIAL_TOKENS, chat_template
from data.licence import declare_licence
from data.records import UserError
from data.tokenizer import require_chat_tokens
from learner.learner import Learner, LearnerConfig
from stages.base import BaseConfig, licence_of, run
from stages.import_model import ImportConfig, import_model, imported_licence
from stages.prompts import HeldOut, PromptMix, TaskShare
from tests.stages.stage_fakes import FakeServices, stage_context

NOBODY = HeldOut.of([], ngram=13)
CORPUS = PromptMix(tasks={"arithmetic": TaskShare(levels=(0, 2)), "tool_call": TaskShare()})


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
    "model.safetensors": "has 1 bytes and no whole safetensors header",
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


def test_a_licence_comes_from_the_folders_card_or_its_own_setting_and_not_from_that_of_the_embedded_base(
    tmp_path: Path,
) -> None:
    bare = BaseConfig(import_from=ImportConfig(folder=str(tmp_path)), licence="Apache-2.0")
    assert licence_of(bare) is None  # an own-data recipe inherits the quickstart's `base.licence`
    assert licence_of(BaseConfig(licence="Apache-2.0")) == "Apache-2.0"
    declare_licence(tmp_path, "MIT")
    assert licence_of(bare) == "mit"
    with pytest.raises(UserError, match=r"base\.import_from\.licence: is Apache-2\.0, but .* says mit"):
        imported_licence(ImportConfig(folder=str(tmp_path), licence="Apache-2.0"))
