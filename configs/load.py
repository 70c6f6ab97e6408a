"""Turns YAML files and `key=value` arguments into the frozen dataclass that a part of the program is written against.

Order of precedence: the dataclass's own defaults < YAML files, in the order given < `key=value`. A config lives beside
the code that uses it, and nobody but this package sees a loose dict. OmegaConf (imported here alone) reads YAML, splits
dotted keys, merges, and resolves `${...}`; `configs.schema` checks keys and builds instances, because a training run
must not start with a misspelt key or with a learning rate that is text.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from configs.schema import Layer, build, check_keys, default_tree, plain
from data.files import atomic_write
from data.records import UserError

CONFIGS = Path(__file__).resolve().parent
RECIPES = CONFIGS / "recipes"
ABLATIONS = CONFIGS / "ablations"
SUITES = CONFIGS / "evals"
GATES = CONFIGS / "gates"
INCLUDE_KEY = "defaults"
"""The top-level YAML key that names files to merge before the file itself; a root config has no field of this name."""

ConfigT = TypeVar("ConfigT")


def load_config(cls: type[ConfigT], files: Sequence[Path], overrides: Sequence[str]) -> ConfigT:
    """An instance of the frozen dataclass `cls` from its defaults, YAML files and `key=value` arguments; the last wins.

    Mappings merge key by key; a list is replaced as a whole. After a (nested) dataclass is built, its
    `validate(self) -> None` is called, innermost first. A file may hold `defaults: [other.yaml, ...]`: these are merged
    before it, and are looked for beside the file, then in the `configs` folder. Raises `UserError` (one line) for an
    unreadable or malformed source, an unknown key, a value of the wrong type, a required value that is not given, or a
    failed validation.
    """
    layers = [layer for file in files for layer in _read_file(Path(file), ())]
    layers += [_read_override(text) for text in overrides]
    for layer in layers:
        check_keys(cls, layer.values, layer.source, cls)
    return cast(ConfigT, build(cls, _merge([Layer("defaults", default_tree(cls)), *layers]), layers))


def load_changed(
    config: ConfigT, changes: Mapping[str, Any], *, replaced: Mapping[str, Any] | None = None, source: str
) -> ConfigT:
    """`config` with `changes` merged in key by key, as a YAML file after those it came from would be.

    Keys may be dotted. What stands at a key of `replaced` is dropped first, so that its value is not merged with what
    was there but with the dataclass's own defaults. `source` names the place of the changes in messages. Raises
    `UserError` as `load_config` does.
    """
    cls = type(config)
    tree = cast(dict[str, Any], _escape_interpolation(to_dict(config)))
    for key in replaced or {}:
        _drop(tree, key.split("."))
    given = [Layer(source, _at(key.split("."), value)) for key, value in [*(replaced or {}).items(), *changes.items()]]
    for layer in given:
        check_keys(cls, layer.values, layer.source, cls)
    layers = [Layer("the recipe", tree), *given]
    return cast(ConfigT, build(cls, _merge([Layer("defaults", default_tree(cls)), *layers]), layers))


def _drop(tree: dict[str, Any], keys: Sequence[str]) -> None:
    """Take away what stands at `keys`; nothing there is nothing to take away."""
    *above, last = keys
    node: Any = tree
    for key in above:
        node = node.get(key) if isinstance(node, dict) else None
    if isinstance(node, dict):
        node.pop(last, None)


def _at(keys: Sequence[str], value: Any) -> dict[str, Any]:
    """`value` inside a mapping for each of `keys`."""
    first, *rest = keys
    return {first: _at(rest, value) if rest else value}


def to_dict(config: Any) -> dict[str, Any]:
    """The config as JSON-ready containers: tuples become lists, paths become text."""
    values = plain(config)
    if not isinstance(values, dict):
        raise TypeError(f"to_dict: expected a dataclass or mapping, got {type(config).__name__}")
    return values


def save_config(config: Any, path: Path) -> None:
    """Writes the resolved config as YAML that `load_config` reads back as an equal instance; `path` changes at once."""
    text = OmegaConf.to_yaml(OmegaConf.create(_escape_interpolation(to_dict(config))))
    atomic_write(path, text)


def config_hash(obj: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of a config, mapping or list; the same for every key order and process.

    `1` and `1.0` differ, as in JSON; a float field that was loaded is always a float. A set has no order and raises
    `TypeError`, as does any other value that JSON cannot hold.
    """
    canonical = json.dumps(plain(obj), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def list_recipes(*, folder: Path = RECIPES) -> list[str]:
    """The names of the recipes that are shipped, sorted; with another folder those of its files."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def find_recipe(name_or_path: str | Path, *, folder: Path = RECIPES, kind: str = "recipe") -> Path:
    """The file of a shipped recipe (by name) or of a YAML file (by path); raises `UserError` when there is neither.

    With another `folder` other shipped files, suites and ablations, are found in the same way; `kind` is what messages
    call them.
    """
    name, known = str(name_or_path), list_recipes(folder=folder)
    if name in known:
        return folder / f"{name}.yaml"
    path = Path(name)
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return path
    close = difflib.get_close_matches(path.stem, known, n=1)
    suggestion = f"; did you mean {close[0]!r}?" if close else ""
    shipped = ", ".join(known) or "none installed"
    raise UserError(f"{kind}: no {kind} and no YAML file {name!r}{suggestion} ({kind}s: {shipped})")


def _read_file(path: Path, including: tuple[Path, ...]) -> Iterator[Layer]:
    """The layers of one YAML file: those of the files it includes, in their order, then its own."""
    resolved = path.resolve()
    if resolved in including:
        chain = " -> ".join(file.name for file in (*including[including.index(resolved) :], resolved))
        raise UserError(f"{path}: `{INCLUDE_KEY}` form a cycle ({chain}); remove one of these entries")
    values = _read_yaml(path)
    included = values.pop(INCLUDE_KEY, [])
    if not isinstance(included, list) or not all(isinstance(entry, str) and entry for entry in included):
        raise UserError(f"{path}: `{INCLUDE_KEY}` must be a list of YAML paths, got {included!r}")
    for entry in included:
        candidates = (path.parent / entry, CONFIGS / entry)
        found = next((candidate for candidate in candidates if candidate.is_file()), None)
        if found is None:
            looked = " nor ".join(str(candidate) for candidate in candidates)
            raise UserError(f"{path}: `{INCLUDE_KEY}` names {entry!r}, but there is neither {looked}")
        yield from _read_file(found, (*including, resolved))
    yield Layer(str(path), values)


def _read_yaml(path: Path) -> dict[Any, Any]:
    try:
        loaded = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except FileNotFoundError:
        raise UserError(f"{path}: no such config file") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{path}:{line}: not valid YAML: {_first_line(error)}") from None
    except (yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path}: cannot be read as YAML: {_first_line(error)}") from None
    if not isinstance(loaded, dict):
        raise UserError(f"{path}: the top level of a config file is `key: value` pairs, not a {type(loaded).__name__}")
    return loaded


def _read_override(text: str) -> Layer:
    """One `key=value` argument; a layer of its own, so that a repeated key means what it says: the last one wins."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"command line: {text!r} is not of the form key=value")
    if not value.strip():
        raise UserError(f"command line: {text!r} has no value; write {key}=null for none, {key}=\"''\" for empty text")
    try:
        values = OmegaConf.to_container(OmegaConf.from_dotlist([text]), resolve=False)
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"command line: {text!r} cannot be read as YAML: {_first_line(error)}") from None
    assert isinstance(values, dict)
    return Layer("command line", values)


def _merge(layers: Sequence[Layer]) -> dict[str, Any]:
    """All layers as one plain tree with every `${...}` resolved."""
    try:
        merged = OmegaConf.to_container(
            OmegaConf.merge(*(dict(layer.values) for layer in layers)), resolve=True, throw_on_missing=True
        )
    except (OmegaConfBaseException, TypeError) as error:  # TypeError: a list merged with a mapping
        key = getattr(error, "full_key", None) or "config"
        raise UserError(f"{key}: cannot be resolved: {_first_line(error)}") from None
    assert isinstance(merged, dict)
    return cast(dict[str, Any], merged)


def _first_line(error: Exception) -> str:
    """What went wrong, without the position and context that YAML and OmegaConf put on further lines."""
    problem = error.problem if isinstance(error, yaml.MarkedYAMLError) else None
    return (problem or str(error) or type(error).__name__).splitlines()[0]


def _escape_interpolation(value: Any) -> Any:
    """Text that holds `${` by now holds it literally, so it is written in the form that OmegaConf reads as literal."""
    if isinstance(value, dict):
        return {key: _escape_interpolation(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escape_interpolation(item) for item in value]
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", lambda match: match.group(1) * 2 + r"\${", value)
    return value
