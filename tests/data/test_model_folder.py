"""The first look at a model folder names what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.model_folder import MODEL_FILES, require_model_folder
from data.records import UserError

NAMES = ("config.json", "tokenizer.json", "model-00001-of-00002.safetensors")


def whole_folder(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / name).write_text("")
    return tmp_path


def test_a_whole_folder_passes(tmp_path: Path) -> None:
    require_model_folder(whole_folder(tmp_path))


@pytest.mark.parametrize(("name", "pattern"), list(zip(NAMES, MODEL_FILES, strict=True)))
def test_each_missing_file_is_named_with_the_folder_and_the_field(tmp_path: Path, name: str, pattern: str) -> None:
    (whole_folder(tmp_path) / name).unlink()
    with pytest.raises(UserError) as caught:
        require_model_folder(tmp_path, field="start")
    assert str(caught.value) == f"start: {tmp_path} holds no {pattern}; it is not a whole Hugging Face model folder"


def test_a_folder_that_is_not_there_and_a_file_in_its_place_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for path in (tmp_path / "nowhere", file):
        with pytest.raises(UserError, match=f"model: {path} is no folder"):
            require_model_folder(path)


def test_a_reader_that_needs_less_may_ask_for_less(tmp_path: Path) -> None:
    (whole_folder(tmp_path) / "tokenizer.json").unlink()
    require_model_folder(tmp_path, files=("config.json", "*.safetensors"))
