"""Bad input at the command line: one line that names field, value and mend, exit code 2, nothing half written."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from learner.model_folder import export_model
from stages import cli
from stages.run_dir import RunDir
from tests.data.byte_tokenizer import byte_tokenizer
from tests.learner.tiny_models import plain_model, save_tiny_model, tiny_tokenizer
from tests.stages.cli_calls import MICRO, ROOT, Call, Outcome, written


def run(call: Call, folder: Path, *arguments: str | Path) -> Outcome:
    return call("run", MICRO, f"run_dir={folder}", *arguments)


# ---------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["quickstrat"], ["recipe:", "'quickstrat'", "did you mean 'quickstart'?"]),
        (["no/such.yaml"], ["recipe:", "no/such.yaml", "recipes: "]),
        (["quickstart", "sed=1"], ["sed: unknown key (from command line)", "did you mean 'seed'?"]),
        (["quickstart", "base.learner.lr=1"], ["base.learner: unknown key", "did you mean"]),
        (["quickstart", "seed=one"], ["seed: ", "int", "'one'"]),
        (["quickstart", "seed=1.5"], ["seed: ", "int", "1.5"]),
        (["quickstart", "cold_start.teacher.kind=oracle"], ["cold_start.teacher.kind: ", "'endpoint'", "'oracle'"]),
        (["quickstart", "reasoning_rl.rl.group_size=1"], ["reasoning_rl.rl", "group_size: 1 gives no group", "use 2"]),
        (["quickstart", "seed"], ["'seed' is not of the form key=value"]),
        (["quickstart", "--until", "cold"], ["--until: 'cold' is no stage", "choose from base, cold_start"]),
        (["quickstart", "--start", "x"], ["--start: ", "--only STAGE"]),
    ],
)
def test_settings_that_make_no_sense_are_one_line(call: Call, arguments: list[str], parts: list[str]) -> None:
    error = call("run", *arguments).error
    for part in parts:
        assert part in error


def test_a_recipe_that_is_not_yaml_is_named_with_its_line(call: Call, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("name: mine\nseed: [1\n")
    assert f"{recipe}:" in call("run", recipe).error
    recipe.write_text("seed: 1\n")
    assert "name" in call("run", recipe).error


# ---------------------------------------------------------------------------------------------- models and data


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with the chat tokens and template."""
    folder = tmp_path_factory.mktemp("model")
    return export_model(plain_model(save_tiny_model(folder / "weights")), byte_tokenizer(), folder / "whole")


@pytest.mark.parametrize("command", ["run", "import"])
def test_a_model_folder_that_is_missing_or_broken_is_one_line(
    call: Call, model: Path, tmp_path: Path, command: str
) -> None:
    def take_in(folder: Path) -> str:
        if command == "import":
            return call("import", folder, tmp_path / "out").error
        outcome = run(
            call, tmp_path / "run", f"base.import_from.folder={folder}", "base.corpus=null", "--until", "base"
        )
        assert outcome.code == 2
        assert "Traceback" not in outcome.err
        (error,) = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
        return error

    assert "is no folder; give a Hugging Face model folder" in take_in(tmp_path / "nowhere")
    folder = shutil.copytree(model, tmp_path / "broken")
    (folder / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes()[:999])
    error = take_in(folder)
    assert str(folder) in error
    assert "export it again" in error
    (folder / "model.safetensors").unlink()
    assert "holds no *.safetensors" in take_in(folder)
    assert not (tmp_path / "out").exists()
    assert [name for name in written(tmp_path / "run") if "partial" in name or "safetensors" in name] == []


def test_import_takes_a_model_in_and_does_not_overwrite(call: Call, model: Path, tmp_path: Path) -> None:
    outcome = call("import", model, tmp_path / "out")
    assert (outcome.code, outcome.out) == (0, f"written to {tmp_path / 'out'}\n")
    assert call("import", model, tmp_path / "out").error == (
        f"OUT: {tmp_path / 'out'} exists; choose a folder that does not"
    )


def alone(call: Call, folder: Path, start: Path) -> Outcome:
    return run(call, folder, "--only", "cold_start", "--start", start)


def test_a_start_without_chat_tokens_is_one_line(call: Call, tmp_path: Path) -> None:
    folder = export_model(plain_model(save_tiny_model(tmp_path / "weights")), tiny_tokenizer(), tmp_path / "model")
    error = alone(call, tmp_path / "run", folder).error
    assert f"the tokenizer in {folder} lacks " in error
    assert "<think>" in error
    assert f"`fourstage import {folder} OUT`" in error
    assert written(tmp_path / "run") == ["config.yaml", "plan.json"]


def test_a_start_with_another_template_is_one_line(call: Call, model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model, tmp_path / "model")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    error = alone(call, tmp_path / "run", folder).error
    assert error.startswith(f"start: the chat template of {folder} is not this pipeline's; take the model in with")
    assert written(tmp_path / "run") == ["config.yaml", "plan.json"]


def test_a_start_that_is_no_folder_is_one_line(call: Call, tmp_path: Path) -> None:
    assert alone(call, tmp_path / "run", tmp_path / "nowhere").error.startswith(
        f"start: {tmp_path / 'nowhere'} is no folder; give a Hugging Face model folder"
    )
    assert written(tmp_path / "run") == []


def test_a_broken_line_of_a_data_file_is_named_with_file_and_line_before_anything_runs(
    call: Call, tmp_path: Path
) -> None:
    data = tmp_path / "mine.jsonl"
    data.write_text('{"question": "1+1?", "answer": "2"}\n{"question": "1+2?", "answer": \n')
    error = run(call, tmp_path / "run", f"reasoning_rl.queries.file={{path: {data}}}").error
    assert f"{data}:2" in error
    assert written(tmp_path / "run") == []
    error = run(call, tmp_path / "run", f"general_rl.replay.file={{path: {tmp_path / 'none.jsonl'}}}").error
    assert f"file.path: {tmp_path / 'none.jsonl'} does not exist" in error
    assert written(tmp_path / "run") == []


# ---------------------------------------------------------------------------------------------- the machine


def test_a_run_directory_in_use_is_one_line_that_names_the_process(call: Call, tmp_path: Path) -> None:
    with RunDir(tmp_path / "run").lock():
        error = run(call, tmp_path / "run").error
    assert error.startswith(f"run directory {tmp_path / 'run'} is in use by process {os.getpid()} on ")
    assert "choose another run directory" in error
    assert written(tmp_path / "run") == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte, where this user may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_disk_without_room_for_a_stage_is_one_line(call: Call, small_disk: Path) -> None:
    error = run(call, small_disk / "run").error
    assert error.startswith(f"{small_disk / 'run'}: ")
    assert "bytes free, 524,288,000 needed; free some space or choose a run directory elsewhere" in error
    assert written(small_disk / "run") == []


def test_a_disk_that_is_full_is_one_line_wherever_it_is_noticed(
    call: Call, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.run.MIN_FREE_BYTES", 0)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            continue
    error = run(call, small_disk / "run").error
    assert "No space left on device" in error
    assert "free some space and start the same command again" in error
    assert [name for name in written(small_disk) if name.endswith((".yaml", ".json"))] == []


def test_too_little_room_is_seen_without_a_small_disk_too(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000))
    assert "1,000 bytes free, 524,288,000 needed" in run(call, tmp_path / "run").error


@pytest.mark.parametrize(
    "raised",
    [
        OSError(28, "No space left on device", "runs/x"),
        RuntimeError("worker: SafetensorError: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_in_a_worker_is_one_line(call: Call, monkeypatch: pytest.MonkeyPatch, raised: Exception) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("stage failed") from raised

    monkeypatch.setattr("stages.run.run_pipeline", fails)
    assert call("run", MICRO).error.startswith("disk: no space left")


def test_a_bug_is_no_user_error_and_keeps_its_traceback(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr("stages.run.run_pipeline", fails)
    monkeypatch.setattr(sys, "argv", ["fourstage", "run", MICRO])
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        cli.main()


def test_an_interrupt_says_that_the_same_command_resumes(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("stages.run.run_pipeline", interrupted)
    assert call("run", MICRO) == Outcome(130, "", "stopped; the same command resumes\n")


# ---------------------------------------------------------------------------------------------- as a process


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["--help"], 0, ""),
        (
            ["run", "quickstrat"],
            2,
            "error: recipe: no recipe and no YAML file 'quickstrat'; did you mean",
        ),
        (["run", MICRO, "base.num_documents=0"], 2, "error: base: num_documents: 0 must be 1 or more"),
    ],
)
def test_the_command_as_a_process(arguments: list[str], code: int, line: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stages.cli", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == code
    if line:
        (said,) = done.stderr.splitlines()
        assert said.startswith(line)
        assert done.stdout == ""
    else:
        assert "Usage" in done.stdout
        assert done.stderr == ""
