"""Builds frozen config dataclasses from plain containers, strictly: the half of `configs.load` that knows types.

A config is described by its dataclass alone: nested dataclasses, int, float, bool, str, Path, Literal, Optional and
other unions, list[T], tuple[T, ...], tuple[A, B], dict[str, T]. A value is never coerced into another type, with two
exceptions that YAML asks for: an integer is a float, and text such as "3e-5" (a float in YAML 1.2, text in YAML 1.1)
is one too. Everything here is pure; the files and the command line are `configs.load`'s.
"""

from __future__ import annotations

import difflib
import math
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from data.records import UserError

Keys = tuple[str | int, ...]
"""Where a value lies: field names, dict keys and list positions from the root."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True, slots=True)
class Layer:
    """Plain containers as one source gave them; `source` names the file or the command line in messages."""

    source: str
    values: Mapping[Any, Any]


def dotted(keys: Keys) -> str:
    """The keys as a user writes them: `learner.lr`, `stages[0].name`."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
    return text.removeprefix(".") or "config"


# ---------------------------------------------------------------------------------------------- types


def _alternatives(hint: Any) -> tuple[Any, ...]:
    """The members of a union, `None` last; any other type alone."""
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(sorted(get_args(hint), key=lambda member: member is types.NoneType))
    return (hint,)


def _kind(hint: Any) -> str:
    """mapping, sequence, any or leaf: which YAML node a type is written as."""
    origin = get_origin(hint) or hint
    if hint is Any:
        return "any"
    if is_dataclass(hint) or origin in (dict, Mapping):
        return "mapping"
    return "sequence" if origin in (list, tuple, Sequence) else "leaf"


def _kind_of_value(value: Any) -> str:
    return "mapping" if isinstance(value, Mapping) else "sequence" if isinstance(value, list) else "leaf"


def _fitting(hint: Any, value: Any) -> list[Any]:
    return [option for option in _alternatives(hint) if _kind(option) in ("any", _kind_of_value(value))]


def _describe(hint: Any) -> str:
    """A type in the words of an error message."""
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(repr(choice) for choice in get_args(hint))
    if len(_alternatives(hint)) > 1:
        return " or ".join(_describe(option) for option in _alternatives(hint))
    if hint is types.NoneType:
        return "null"
    if is_dataclass(hint):
        return f"a mapping ({getattr(hint, '__name__', hint)})"
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint).replace("typing.", "")


def field_types(cls: Any) -> dict[str, Any]:
    """The resolved type of each field that the constructor of dataclass `cls` takes."""
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in fields(cls) if field.init}


# ---------------------------------------------------------------------------------------------- keys


def check_keys(hint: Any, value: Any, source: str, root: Any, keys: Keys = ()) -> None:
    """Refuses unknown keys and containers of the wrong kind in one source, before merging hides its origin."""
    options = _fitting(hint, value)
    if value == "???":  # OmegaConf's mark for "missing", which merging would pass over in silence
        raise UserError(f"{dotted(keys)}: ??? is no value (from {source}); give one, or leave the key out")
    if _kind_of_value(value) == "leaf" or Any in options:
        return
    if not options:
        mend = "; a list is replaced as a whole: key=[...]" if isinstance(value, Mapping) else ""
        raise UserError(f"{dotted(keys)}: expected {_describe(hint)}, got {value!r} (from {source}){mend}")
    if not isinstance(value, Mapping):
        return
    known = field_types(options[0]) if is_dataclass(options[0]) else None
    item_hint = None if known is not None else (get_args(options[0]) or (str, Any))[1]
    for key, item in value.items():
        path = (*keys, str(key))
        if known is not None and key not in known:
            raise UserError(f"{dotted(path)}: unknown key (from {source}); {_suggestion(path, list(known), root)}")
        if not isinstance(key, str):
            raise UserError(f"{dotted(path)}: keys are text here; quote {key!r} (from {source})")
        check_keys(known[key] if known is not None else item_hint, item, source, root, path)


def _suggestion(path: Keys, siblings: list[str], root: Any) -> str:
    """A close sibling first, then the same name elsewhere in the config, else what is known at this place."""
    close = [dotted((*path[:-1], name)) for name in difflib.get_close_matches(str(path[-1]), siblings, n=1)]
    elsewhere = [dotted(keys) for keys in _all_keys(root) if keys[-1] == path[-1]]
    for candidate in close + elsewhere:
        return f"did you mean {candidate!r}?"
    return f"known here: {', '.join(siblings) or 'nothing'}"


def _all_keys(cls: Any, prefix: Keys = (), above: tuple[Any, ...] = ()) -> Iterator[Keys]:
    for name, hint in field_types(cls).items():
        yield (*prefix, name)
        for option in _alternatives(hint):
            if is_dataclass(option) and option not in (*above, cls):
                yield from _all_keys(option, (*prefix, name), (*above, cls))


# ---------------------------------------------------------------------------------------------- building


def build(cls: type, values: Mapping[str, Any], layers: Sequence[Layer], keys: Keys = ()) -> Any:
    """An instance of dataclass `cls`; its parts are built and validated first, then its own `validate()` is called.

    `layers` serve only to name where a refused value came from. Raises `UserError` with the dotted key.
    """
    values = _merge(default_tree(cls), values)
    hints = field_types(cls)
    arguments: dict[str, Any] = {}
    for field in fields(cls):
        if field.init and field.name in values:
            arguments[field.name] = _convert(hints[field.name], values[field.name], (*keys, field.name), layers)
        elif field.init and not _has_default(field):
            name = dotted((*keys, field.name))
            raise UserError(f"{name}: required; set it in a file or as {name}=VALUE")
    try:
        instance = cls(**arguments)
        validate = getattr(instance, "validate", None)
        if validate is not None:
            validate()
    except ValueError as error:
        message = " ".join(str(error).split())
        raise UserError(f"{dotted(keys)}: {message}" if keys else message) from error
    return instance


def _convert(hint: Any, value: Any, keys: Keys, layers: Sequence[Layer]) -> Any:
    """`value` as the first alternative of `hint` that takes it."""
    for option in _fitting(hint, value):
        if is_dataclass(option) and isinstance(option, type):
            return build(option, value, layers, keys)
        if option is Any:
            return value
        if isinstance(value, Mapping):
            item_hint = (get_args(option) or (str, Any))[1]
            return {key: _convert(item_hint, item, (*keys, key), layers) for key, item in value.items()}
        if isinstance(value, list):
            hints = _item_hints(option, len(value))
            if len(hints) == len(value):
                items = [_convert(hints[i], item, (*keys, i), layers) for i, item in enumerate(value)]
                return items if get_origin(option) is list or option is list else tuple(items)
        elif (leaf := _convert_leaf(option, value)) is not MISSING:
            return leaf
    source = _origin(keys, layers)
    raise UserError(f"{dotted(keys)}: expected {_describe(hint)}, got {_explain(hint, value)} (from {source})")


def _item_hints(option: Any, length: int) -> tuple[Any, ...]:
    """The types of the items of a list or tuple; a fixed-length tuple has its own number of them."""
    arguments = get_args(option)
    if get_origin(option) is tuple and arguments[1:] != (...,):
        return arguments
    return ((arguments or (Any,))[0],) * length


def _convert_leaf(option: Any, value: Any) -> Any:
    """A scalar as `option`, or MISSING when it is of another type. A bool is never a number."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if get_origin(option) is Literal:
        # True == 1 in Python, so the type is compared too.
        return next((choice for choice in get_args(option) if choice == value and type(choice) is type(value)), MISSING)
    if option is float:
        if isinstance(value, str) and _NUMBER.fullmatch(value):
            return float(value)
        return float(value) if is_number and not math.isnan(value) else MISSING
    if option is int:
        return value if is_number and isinstance(value, int) else MISSING
    if option is Path:
        return Path(value) if isinstance(value, str) and value else MISSING
    if option in (bool, str, types.NoneType):
        return value if isinstance(value, option) else MISSING
    if _kind(option) == "leaf":
        raise TypeError(f"configs.schema: a config field cannot have the type {option!r}")
    return MISSING


def _explain(hint: Any, value: Any) -> str:
    """The refused value with its type, and the mend where YAML is likely to have misread what was meant."""
    text = f"{value!r} ({'null' if value is None else type(value).__name__})"
    takes_text = any(option is str or get_origin(option) is Literal for option in _alternatives(hint))
    if takes_text and isinstance(value, bool):
        return f"{text}; YAML reads on, off, yes and no as booleans, quote the word"
    if str in _alternatives(hint) and isinstance(value, int | float):
        return f"{text}; quote it to make it text"
    choices = [str(c) for option in _alternatives(hint) if get_origin(option) is Literal for c in get_args(option)]
    close = difflib.get_close_matches(str(value), choices, n=1)
    return f"{text}; did you mean {close[0]!r}?" if close else text


def _origin(keys: Keys, layers: Sequence[Layer]) -> str:
    """The last source that set the value at `keys`, or something that contains it."""
    for layer in reversed(layers):
        node: Any = layer.values
        for key in keys:
            if not isinstance(node, Mapping):
                return layer.source
            if key not in node:
                break
            node = node[key]
        else:
            return layer.source
    return "the dataclass's own default"


# ---------------------------------------------------------------------------------------------- plain containers


def _has_default(field: Field[Any]) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


def default_tree(cls: Any) -> dict[str, Any]:
    """The defaults of `cls` as plain containers; a field that must be given is absent."""
    hints, tree = field_types(cls), {}
    for field in fields(cls):
        if not field.init:
            continue
        if field.default is not MISSING:
            tree[field.name] = plain(field.default)
        elif field.default_factory is not MISSING:
            tree[field.name] = plain(field.default_factory())
        elif is_dataclass(hints[field.name]):
            tree[field.name] = default_tree(hints[field.name])
    return tree


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`, mapping by mapping."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def plain(value: Any) -> Any:
    """Dataclasses, mappings, tuples, lists and paths as what JSON and YAML hold; other types raise `TypeError`."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value) if field.init}
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"config: mapping keys must be text, got {key!r}")
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"config: cannot hold a {type(value).__name__}: {value!r}")
