"""Training a preference model from the command line: the folder, its manifest, and what is refused."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from data.preference import conversation, preference_token_ids
from data.records import UserError
from data.tokenizer import train_tokenizer
from learner.preference_trainer import PreferenceTrainingConfig
from rewards.preference import PreferenceConfig, read_calibration
from rewards.preference_pairs import generate_pairs
from stages.preference_model import (
    PreferenceModelConfig,
    check_preference_folder,
    preference_identity,
    result_rows,
    start_preference_model,
    train_preference_model,
)
from stages.progress import Progress
from tests.learner.tiny_models import save_tiny_model
from tests.stages.cli_calls import Call

Trained = tuple[Path, dict[str, Any]]
"""The folder of a model that was trained on a user's pairs, and its manifest as it was returned."""


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy") / "model"
    texts = [text for pair in generate_pairs(80, seed=0) for text in (pair.chosen, pair.rejected)]
    tokenizer = train_tokenizer(texts, vocab_size=512)
    save_tiny_model(folder, vocab_size=len(tokenizer), eos_token_id=None)
    tokenizer.save_pretrained(folder)
    return folder


def _own_pairs(path: Path) -> Path:
    rows = [
        {"messages": [{"role": "user", "content": f"Number {n}?"}], "chosen": f"Gladly: {n}.", "rejected": f"No, {n}!"}
        for n in range(80)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def trained(policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    config = PreferenceModelConfig(
        pairs=str(_own_pairs(folder / "pairs.jsonl")), train=PreferenceTrainingConfig(lr=3e-3, num_epochs=8)
    )
    stream = io.StringIO()
    with Progress(1, plain=True, stream=stream) as progress:
        manifest = train_preference_model(config, policy, folder / "model", seed=0, progress=progress)
    assert "stage 1/1 preference model: done" in stream.getvalue()
    return folder / "model", manifest


def test_the_manifest_says_what_was_trained_and_how_good_it_is(trained: Trained, policy: Path) -> None:
    folder, returned = trained
    manifest = json.loads((folder / "preference_model.json").read_text())
    assert returned == manifest
    assert manifest["parent"] == {"path": str(policy), "key": None}
    assert manifest["pairs"]["num_train"] + manifest["pairs"]["num_held_out"] == 80
    assert len(manifest["pairs"]["sha256"]) == 64
    assert manifest["held_out"]["accuracy"] >= 0.8
    assert manifest["max_length"] == 256  # the model's own positions
    assert read_calibration(folder).num_pairs == manifest["pairs"]["num_held_out"]
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= manifest["files"].keys()


def test_the_folder_is_an_ordinary_one(trained: Trained) -> None:
    folder, manifest = trained
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    user = ({"role": "user", "content": "Number 5?"},)
    with torch.no_grad():
        polite, rude = (
            model(torch.tensor([preference_token_ids(tokenizer, conversation(user, text), 256)])).logits.item()
            for text in ("Gladly: 5.", "No, 5!")
        )
    assert polite > rude
    assert check_preference_folder(folder).as_json() == manifest["calibration"]


def test_generated_pairs_are_the_default_and_the_table_names_the_figures(
    policy: Path, tmp_path: Path, call: Call
) -> None:
    out = tmp_path / "model"
    outcome = call("preference-model", policy, out, "--num-pairs", "80", "--epochs", "1", "--plain")
    assert outcome.code == 0, outcome
    assert "held-out accuracy" in outcome.out
    assert "length slope" in outcome.out
    manifest = json.loads((out / "preference_model.json").read_text())
    assert manifest["pairs"]["source"] == "generated"
    assert set(manifest["pairs"]["tasks"].values()) == {20}
    assert len(result_rows(manifest)) == 7
    again = call(
        "preference-model", policy, tmp_path / "again", "--num-pairs", "80", "--epochs", "1", "--plain", "--json"
    )
    assert again.document == manifest  # the same arguments give the same bytes, whatever the folder is called


def test_bad_input_is_one_line_and_leaves_nothing(policy: Path, tmp_path: Path, call: Call) -> None:
    out = tmp_path / "out"
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"messages": [{"role": "user", "content": "a"}], "chosen": "b"}\n')
    assert (
        f"{bad}:1: field rejected is missing"
        in call("preference-model", str(policy), str(out), "--pairs", str(bad)).error
    )
    assert "is no folder" in call("preference-model", str(tmp_path / "none"), str(out)).error
    assert "dtype: 'float8'" in call("preference-model", str(policy), str(out), "--dtype", "float8").error
    assert "choose a level" in call("preference-model", str(policy), str(out), "--difficulty", "9").error
    assert not out.exists()
    assert "OUT: " in call("preference-model", str(policy), str(tmp_path)).error


def test_an_altered_folder_is_named_before_an_engine_starts(trained: Trained, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(trained[0], folder)
    assert preference_identity(folder) == preference_identity(trained[0])
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(bytes(weights))
    with pytest.raises(UserError, match=r"model\.safetensors was altered"):
        start_preference_model(PreferenceConfig(folder=str(folder)), log_folder=tmp_path)
    with pytest.raises(UserError, match=r"preference\.folder: null"):
        start_preference_model(PreferenceConfig(), log_folder=tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"num_pairs": 3}, "num_pairs: 3"), ({"difficulty": -1}, "difficulty: -1"), ({"tasks": ()}, "tasks: empty"),
     ({"tasks": ("math",)}, "tasks: 'math'")],
)  # fmt: skip
def test_a_setting_that_cannot_work_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PreferenceModelConfig(**changes).validate()
