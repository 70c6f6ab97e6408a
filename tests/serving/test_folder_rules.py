"""Folders that may be served, and pairs of which one may take the other's place."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch

from data.records import UserError
from learner.checkpoint import read_manifest
from serving.folder_rules import require_safe_folder, require_trained_contract, swap_fault
from tests.serving.served_models import save_checkpoint


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("saved") / "model")


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def test_a_checkpoint_of_a_stage_may_be_served(folder: Path) -> None:
    require_safe_folder(folder)
    require_trained_contract(folder, read_manifest(folder))


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.pt", "optimizer.pth", "state.pkl", "a.pickle", "part/model.ckpt", "x.so"]
)
def test_a_file_that_may_run_code_when_it_is_loaded_is_refused_by_name(folder: Path, name: str) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")
    with pytest.raises(UserError, match=rf"^version v1: .*{path.name} may run code .* only safetensors are served"):
        require_safe_folder(folder, field="version v1")


def test_code_beside_the_weights_is_refused_by_name(folder: Path) -> None:
    (folder / "modeling_mine.py").write_text("")
    with pytest.raises(UserError, match=r"modeling_mine\.py is code; trust_remote_code is off"):
        require_safe_folder(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_model_that_needs_code_of_its_own_is_refused_by_name(folder: Path, name: str) -> None:
    value = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**value, "auto_map": {"AutoModel": "mine.Model"}}))
    with pytest.raises(UserError, match=rf"{name} has auto_map, the model needs trust_remote_code"):
        require_safe_folder(folder)


def test_weights_that_were_cut_short_are_refused(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"model\.safetensors has .* bytes, its header counts"):
        require_safe_folder(folder)


def test_another_template_than_that_of_the_training_is_refused(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(UserError, match="chat_template_sha256 of the folder is not what the model was trained with"):
        require_trained_contract(folder, read_manifest(folder))


def test_weights_of_the_same_shape_may_take_each_others_place(folder: Path, tmp_path: Path) -> None:
    other = save_checkpoint(tmp_path / "other", seed=5, changes={"transformers_version": "9", "dtype": "bfloat16"})
    assert swap_fault(folder, other) is None


def test_another_shape_or_another_position_encoding_is_named(folder: Path, tmp_path: Path) -> None:
    other = save_checkpoint(tmp_path / "other", changes={"num_hidden_layers": 3})
    assert swap_fault(folder, other) == (
        "config.json: num_hidden_layers is 3 and was 2; start a new server for a model of another shape"
    )
    longer = save_checkpoint(tmp_path / "longer", max_positions=1024)
    assert "max_position_embeddings is 1024 and was 512" in str(swap_fault(folder, longer))


def test_a_tensor_of_another_shape_that_is_missing_or_one_too_many_is_named(folder: Path, saved: Path) -> None:
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    name = "model.layers.0.mlp.down_proj.weight"
    for changed, shape in (
        ({**tensors, name: tensors[name][:5].contiguous()}, "[5, 128], that of the model that is served has [64, 128]"),
        ({key: value for key, value in tensors.items() if key != name}, "none, that of the model that is served has ["),
    ):
        safetensors.torch.save_file(changed, folder / "model.safetensors")
        assert f"weights: {name} has shape {shape}" in str(swap_fault(saved, folder))
        assert str(swap_fault(folder, saved)).startswith(f"weights: {name} has shape [64, 128]")


@pytest.mark.parametrize("name", ["chat_template.jinja", "tokenizer.json", "generation_config.json"])
def test_what_the_engine_reads_when_it_starts_has_to_be_equal(folder: Path, saved: Path, name: str) -> None:
    text = (folder / name).read_text()
    (folder / name).write_text(text + " " if name.endswith("jinja") else json.dumps({**json.loads(text), "new": 1}))
    assert str(swap_fault(saved, folder)).startswith(f"{name} differs from that of the model that is served")
    (folder / name).unlink()
    assert str(swap_fault(saved, folder)).startswith(f"{name} differs")
