from __future__ import annotations

import json
from pathlib import Path

import pytest

from data.records import UserError
from learner.checkpoint import (
    CheckpointError,
    Manifest,
    Parent,
    StateStore,
    atomic_folder,
    canonical_hash,
    check_contract,
    read_manifest,
    verify_checkpoint,
    write_checkpoint,
)

CONTRACT = {"template_sha256": "aa" * 32, "eos_token_ids": [151645, 151643], "vocab_size": 300}


def manifest() -> Manifest:
    return Manifest(
        stage="cold_start", key="k1", parent=Parent("models/base", "k0"), config_hash="c", data_hash="d",
        contract=CONTRACT, rewards=("math",), seeds={"run": 7}, code_commit="0123", packages={"torch": "2.13.0"},
        metrics={"loss": 0.5}, cost={"tokens": 1000.0, "seconds": 2.5},
    )  # fmt: skip


def write_files(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(bytes(range(256)))
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "vocab.json").write_text('{"a": 0}')


def test_a_checkpoint_reads_back_as_it_was_written(tmp_path: Path) -> None:
    written = write_checkpoint(tmp_path / "final", manifest(), write_files)
    assert read_manifest(tmp_path / "final") == verify_checkpoint(tmp_path / "final") == written
    assert written.files.keys() == {"model.safetensors", "tokenizer/vocab.json"}
    record = written.files["model.safetensors"]
    assert record.size_bytes == 256
    assert record.sha256 == "40aff2e9d2d8922e47afd4648e6967497158785fbd1da870e7110266bf944880"  # sha256sum of 00..ff


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer/vocab.json"])
def test_missing_truncated_and_altered_files_are_named(tmp_path: Path, name: str) -> None:
    write_checkpoint(tmp_path / "final", manifest(), write_files)
    path = tmp_path / "final" / name
    whole = path.read_bytes()
    for content, damage in (
        (whole[:-1], "is truncated"),
        (whole + b"\0", "is too long"),
        (bytes([whole[0] ^ 1]) + whole[1:], "was altered"),
    ):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=f"{name} {damage}"):
            verify_checkpoint(tmp_path / "final")
    path.unlink()
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        verify_checkpoint(tmp_path / "final")


def test_the_manifest_itself_is_checked(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "final", manifest(), write_files)
    path = tmp_path / "final" / "manifest.json"
    text = path.read_text()
    path.write_text(text.replace('"loss": 0.5', '"loss": 0.4'))
    with pytest.raises(CheckpointError, match=r"manifest\.json was altered"):
        read_manifest(tmp_path / "final")
    path.write_text(text[:50])
    with pytest.raises(CheckpointError, match=r"manifest\.json was truncated or altered"):
        read_manifest(tmp_path / "final")
    path.unlink()
    with pytest.raises(CheckpointError, match=r"manifest\.json is missing"):
        read_manifest(tmp_path / "final")


def test_every_single_altered_byte_of_the_manifest_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "final", manifest(), write_files)
    path = tmp_path / "final" / "manifest.json"
    whole = path.read_bytes()
    original = json.loads(whole)
    for index in range(0, len(whole), 7):
        path.write_bytes(whole[:index] + bytes([whole[index] ^ 1]) + whole[index + 1 :])
        try:
            read_manifest(tmp_path / "final")
        except CheckpointError:
            continue
        assert json.loads(path.read_bytes()) == original  # only a change of spacing may pass


def test_a_manifest_of_another_format_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "final", manifest(), write_files)
    path = tmp_path / "final" / "manifest.json"
    payload = json.loads(path.read_text())
    del payload["self_sha256"], payload["cost"]
    path.write_text(json.dumps(payload | {"self_sha256": canonical_hash(payload)}))
    with pytest.raises(CheckpointError, match=r"other fields \(cost\)"):
        read_manifest(tmp_path / "final")


def test_a_writer_that_fails_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "final", manifest(), write_files)

    def fails(folder: Path) -> None:
        write_files(folder)
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write_checkpoint(tmp_path / "final", manifest(), fails)
    verify_checkpoint(tmp_path / "final")
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_atomic_folder_replaces_and_clears_what_a_dead_process_left(tmp_path: Path) -> None:
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial" / "stale").write_text("x")
    for content in ("one", "two"):
        with atomic_folder(tmp_path / "out") as partial:
            (partial / "file").write_text(content)
            assert not (tmp_path / "out" / "stale").exists()
        assert (tmp_path / "out" / "file").read_text() == content
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["file"]


def test_the_same_contract_passes_in_any_key_order() -> None:
    check_contract(manifest(), dict(reversed(CONTRACT.items())))


def test_another_template_is_refused_with_both_hashes() -> None:
    ours = CONTRACT | {"template_sha256": "bb" * 32}
    with pytest.raises(CheckpointError) as caught:
        check_contract(manifest(), ours)
    text = str(caught.value)
    assert isinstance(caught.value, UserError)
    assert canonical_hash(CONTRACT)[:12] in text
    assert canonical_hash(ours)[:12] in text
    assert "template_sha256" in text
    assert "eos_token_ids" not in text
    assert "\n" not in text


def save(store: StateStore, step: int) -> Path:
    def write(folder: Path) -> None:
        (folder / "state.bin").write_bytes(bytes([step] * 20))

    return store.save(step, write)


def test_the_store_keeps_the_newest_and_finds_the_latest(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "states", keep=2)
    empty = store.latest()
    assert (empty.step, empty.folder, empty.refused) == (0, None, ())
    for step in (1, 2, 10):
        save(store, step)
    assert store.steps() == [2, 10]
    latest = store.latest()
    assert (latest.step, latest.folder, latest.refused) == (10, tmp_path / "states" / "step-00000010", ())


@pytest.mark.parametrize(("damage", "word"), [("truncate", "truncated"), ("alter", "altered"), ("unlink", "missing")])
def test_a_damaged_state_is_refused_by_name_and_the_one_before_is_used(tmp_path: Path, damage: str, word: str) -> None:
    store = StateStore(tmp_path)
    save(store, 1)
    path = save(store, 2) / "state.bin"
    if damage == "truncate":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "alter":
        path.write_bytes(b"\x02" * 19 + b"\x03")
    else:
        path.unlink()
    latest = store.latest()
    assert latest.step == 1
    assert latest.folder == store.path(1)
    assert len(latest.refused) == 1
    assert "step-00000002: state.bin" in latest.refused[0]
    assert word in latest.refused[0]


def test_a_half_written_state_is_never_seen(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    save(store, 1)
    (tmp_path / ".step-00000002.partial").mkdir()
    assert store.latest().step == 1


def test_saving_after_a_resume_drops_the_abandoned_future(tmp_path: Path) -> None:
    store = StateStore(tmp_path, keep=3)
    for step in (1, 2, 3):
        save(store, step)
    save(store, 2)
    assert store.steps() == [1, 2]


def test_a_store_that_keeps_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="keep: 0"):
        StateStore(tmp_path, keep=0)
