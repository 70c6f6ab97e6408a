"""What a folder says by itself: faults by the name of the file, and the chain of its parents."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from learner.checkpoint import Parent
from serving.figures import FileFigures
from serving.folder_figures import contract_figures, file_figures, lineage_figures
from tests.serving.checkpoints import WEIGHTS, small_checkpoint
from tests.serving.served_models import save_checkpoint


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("model") / "checkpoint", stage="base")


@pytest.fixture
def folder(model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model, tmp_path / "checkpoint"))


def test_a_checkpoint_as_a_stage_wrote_it_has_no_fault(folder: Path) -> None:
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json"]
    (folder / "gates.production.json").write_text("{}")  # what a registry lays beside it does not count
    assert file_figures(folder) == FileFigures(len(sizes), sum(sizes), None)
    assert contract_figures(folder).fault is None
    assert lineage_figures(folder).chain == ("base",)


def test_every_damage_is_named(folder: Path) -> None:
    weights = folder / WEIGHTS
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    assert WEIGHTS in (file_figures(folder).fault or "")
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert f"{WEIGHTS} was altered" in (file_figures(folder).fault or "")
    weights.write_bytes(whole)
    (folder / "pytorch_model.bin").write_bytes(b"x")
    assert "pytorch_model.bin may run code" in (file_figures(folder).fault or "")


def test_another_template_than_that_of_training_is_a_fault(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert "chat_template_sha256" in (contract_figures(folder).fault or "")


def test_the_chain_follows_the_parents_and_ends_with_a_key_where_one_is_gone(tmp_path: Path) -> None:
    base = small_checkpoint(tmp_path / "base", stage="base", key="k-base-0", parent=None)
    middle = small_checkpoint(
        tmp_path / "rl", fill=1, stage="reasoning_rl", key="k-rl", parent=Parent(str(base), "k-base-0")
    )
    last = small_checkpoint(tmp_path / "last", fill=2, stage="general_rl", parent=Parent(str(middle), "k-rl"))
    assert lineage_figures(last).chain == ("general_rl", "reasoning_rl", "base")
    (base / "manifest.json").write_text("{")
    assert lineage_figures(last).chain == ("general_rl", "reasoning_rl", "(k-base-0)")
    small_checkpoint(middle, fill=3, stage="reasoning_rl", key="another")
    assert lineage_figures(last).chain == ("general_rl", "(k-rl)")


def test_a_chain_that_names_itself_ends(tmp_path: Path) -> None:
    folder = tmp_path / "loop"
    small_checkpoint(folder, stage="general_rl", key="k", parent=Parent(str(folder), "k"))
    assert len(lineage_figures(folder).chain) == 64
