"""The licence in a model folder's card: read, written, and refused where two differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.licence import agreed_licence, declare_licence, declared_licence, require_licence_name
from data.records import UserError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("---\nlicense: mit\n---\n# x", "mit"),
        ("---\ntags: [a]\n---\n# x", None),
        ("---\nlicense: [mit]\n---\n", None),
        ("# x\nlicense: mit\n", None),
        ("", None),
        ("---\nlicense: mit\n---", "mit"),
    ],
)
def test_the_licence_of_a_card_is_that_of_its_front_matter(tmp_path: Path, text: str, expected: str | None) -> None:
    (tmp_path / "README.md").write_text(text)
    assert declared_licence(tmp_path) == expected


def test_no_card_declares_no_licence_and_a_broken_one_is_named(tmp_path: Path) -> None:
    assert declared_licence(tmp_path) is None
    (tmp_path / "README.md").write_text("---\nlicense: [mit\n---\n")
    with pytest.raises(UserError, match=r"README\.md: its front matter is not YAML"):
        declared_licence(tmp_path)


@pytest.mark.parametrize("licence", ["Apache-2.0", "mit", "GPL-2.0+"])
def test_what_is_declared_is_read_again_in_small_letters(tmp_path: Path, licence: str) -> None:
    require_licence_name(licence)
    declare_licence(tmp_path, licence)
    assert declared_licence(tmp_path) == licence.lower()


@pytest.mark.parametrize("licence", ["", "Apache 2.0", "mit\nx: y", "-", "https://x"])
def test_what_is_no_identifier_is_refused(licence: str) -> None:
    with pytest.raises(UserError, match="is no SPDX identifier"):
        require_licence_name(licence)


def test_settings_and_card_have_to_agree() -> None:
    assert agreed_licence("MIT", None, field="f") == "MIT"
    assert agreed_licence(None, "mit", field="f") == "mit"
    assert agreed_licence("MIT", "mit", field="f") == "MIT"
    assert agreed_licence(None, None, field="f") is None
    with pytest.raises(UserError, match=r"f: is MIT, but the model's own README.md says apache-2.0"):
        agreed_licence("MIT", "apache-2.0", field="f")


def test_a_card_in_another_encoding_is_read_for_its_licence_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(b"---\nlicense: mit\n---\n# caf\xe9\n")
    assert declared_licence(tmp_path) == "mit"
