"""Reads prompts from JSONL, parquet, a Hugging Face dataset folder or a seeded generator: where a run's data begins.

A row is one of two shapes. `{"messages": [...], "reference": ...}` is taken as it is.
`{"question": ..., "answer": ...}` becomes one user message, and the answer the reference {"answer": text}. Optional in
both: `task`, `domain`, `difficulty`, `enable_thinking`, `tools`; other fields are not read. A row that cannot be read
stops the run and names file, row and field: a prompt that silently goes missing changes what is trained on.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from data.records import Message, Prompt, UserError
from data.rows import jsonl_rows, parquet_rows, split_of, without_absent

logger = logging.getLogger(__name__)

ROLES = ("system", "user", "assistant", "tool")
DATA_SUFFIXES = (".jsonl", ".parquet")
MAX_TRIES_PER_PROMPT = 50
"""A generator that repeats itself so often has run out of different questions."""


@dataclass(frozen=True, slots=True)
class LoadedPrompts:
    """The prompts of a source with what was read and dropped; conflicts are duplicates with another reference."""

    prompts: tuple[Prompt, ...]
    num_rows: int
    num_duplicates: int
    num_conflicts: int


def load_prompts(
    path: Path | str,
    *,
    task: str | None = None,
    split: str | None = None,
    question_field: str = "question",
    answer_field: str = "answer",
    limit: int | None = None,
    seed: int = 0,
) -> list[Prompt]:
    """The prompts of a `.jsonl` or `.parquet` file or of a dataset folder, each question once, in file order.

    Without `task` each row has to name its own. `split` chooses the files (or the saved split) of a folder. `limit`
    keeps that many, chosen by (seed, uid) and not by position. Repeated questions are dropped with a warning that
    counts them (`read_prompts` returns the counts). Raises `UserError` for anything that cannot be read.
    """
    loaded = read_prompts(path, task=task, split=split, question_field=question_field, answer_field=answer_field)
    prompts = list(loaded.prompts)
    if limit is None:
        return prompts
    if limit < 1:
        raise UserError(f"limit: must be at least 1, got {limit}")
    chosen = {prompt.uid for prompt in sorted(prompts, key=lambda prompt: uid_rank(seed, prompt.uid))[:limit]}
    return [prompt for prompt in prompts if prompt.uid in chosen]


def read_prompts(
    path: Path | str,
    *,
    task: str | None = None,
    split: str | None = None,
    question_field: str = "question",
    answer_field: str = "answer",
) -> LoadedPrompts:
    """All prompts of a source, with counts; see `load_prompts`."""
    path = Path(path)
    first: dict[str, Prompt] = {}
    num_rows = num_conflicts = 0
    for place, row in _rows(path, split):
        num_rows += 1
        prompt = _prompt_of(row, place, task, question_field, answer_field)
        known = first.setdefault(prompt.uid, prompt)
        num_conflicts += known.reference != prompt.reference
    if not num_rows:
        raise UserError(f"{path}: holds no rows; give a file with at least one prompt")
    num_duplicates = num_rows - len(first)
    if num_duplicates:
        logger.warning(
            "%s: %d duplicate questions dropped, %d of them with another reference", path, num_duplicates, num_conflicts
        )
    return LoadedPrompts(tuple(first.values()), num_rows, num_duplicates, num_conflicts)


def prompt_uid(
    task: str,
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]] | None = None,
    enable_thinking: bool | None = None,
) -> str:
    """`task/` and 12 hex digits of the SHA-256 of what the policy gets to see; the reference is no part of it."""
    content = {"messages": [dict(message) for message in messages]}
    extra = {"tools": tools and [dict(tool) for tool in tools], "enable_thinking": enable_thinking}
    content |= {name: value for name, value in extra.items() if value is not None}  # type: ignore[misc]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return f"{task}/{hashlib.sha256(text.encode()).hexdigest()[:12]}"


class Generate(Protocol):
    """A prompt as a function of its arguments alone."""

    def __call__(self, *, seed: int, index: int, difficulty: int) -> Prompt: ...


def generated_prompts(
    generate: Generate, *, task: str, seed: int, count: int, difficulty: int | Sequence[int] = 0
) -> list[Prompt]:
    """`count` different prompts of a generator, difficulties in turn; the same arguments give the same prompts.

    Prompts keep what the generator gave them, but their uid is that of their content, so that a generated question and
    the same one in a file are one prompt. Raises `UserError` when the generator runs out of different questions.
    """
    difficulties = (difficulty,) if isinstance(difficulty, int) else tuple(difficulty)
    if count < 1 or not difficulties:
        raise UserError(f"task {task!r}: need count >= 1 and a difficulty, got {count=}, {difficulty=}")
    found: dict[str, Prompt] = {}
    index = tries = 0
    while len(found) < count:
        level = difficulties[len(found) % len(difficulties)]
        prompt = generate(seed=seed, index=index, difficulty=level)
        index += 1
        uid = prompt_uid(task, prompt.messages, prompt.tools, prompt.enable_thinking)
        tries = tries + 1 if uid in found else 0
        if tries >= MAX_TRIES_PER_PROMPT:
            raise UserError(
                f"task {task!r}: only {len(found)} different prompts at difficulty {level}, {count} asked for; "
                "lower the count or add difficulties"
            )
        found.setdefault(uid, replace(prompt, uid=uid, task=task, difficulty=level))
    return list(found.values())


def split_prompts(prompts: Sequence[Prompt], holdout: int | float, seed: int = 0) -> tuple[list[Prompt], list[Prompt]]:
    """(train, held out), by a hash of (seed, uid), each in order.

    A share in (0, 1) holds out every prompt whose hash falls below it: the choice for a prompt never changes when the
    data grows, and the size is right on average. A count holds out exactly that many. Raises `UserError` for a holdout
    that leaves nothing on one side.
    """
    uids = {prompt.uid for prompt in prompts}
    if isinstance(holdout, float):
        held = {uid for uid in uids if int(uid_rank(seed, uid)[:16], 16) < holdout * 2**64}
    else:
        held = set(sorted(uids, key=lambda uid: uid_rank(seed, uid))[: max(holdout, 0)])
    if not 0 < len(held) < len(uids):
        raise UserError(f"holdout: {holdout} of {len(uids)} prompts leaves {len(held)} held out; both sides need some")
    return [p for p in prompts if p.uid not in held], [p for p in prompts if p.uid in held]


def uid_rank(seed: int, uid: str) -> str:
    """A pseudo-random text to sort uids by, a function of its arguments alone."""
    return hashlib.sha256(f"{seed}/{uid}".encode()).hexdigest()


# ---------------------------------------------------------------------------------------------- rows of a file


def _rows(path: Path, split: str | None) -> Iterator[tuple[str, Any]]:
    """The rows of a source with where each lies ("file:line", "file:row 3")."""
    if path.is_dir():
        files = sorted(file for suffix in DATA_SUFFIXES for file in path.rglob(f"*{suffix}"))
        if not files:
            yield from _saved_dataset_rows(path, split)
        for file in _files_of_split(path, files, split):
            yield from _rows(file, None)
    elif split is not None:
        raise UserError(f"{path}: split={split!r} chooses within a folder; a file is one split, leave it out")
    elif not path.is_file():
        raise UserError(f"{path}: no such file or folder")
    elif path.suffix == ".jsonl":
        yield from jsonl_rows(path)
    elif path.suffix == ".parquet":
        yield from parquet_rows(path)
    else:
        raise UserError(f"{path}: cannot read {path.suffix or 'a file without suffix'}; use .jsonl or .parquet")


def _files_of_split(folder: Path, files: list[Path], split: str | None) -> list[Path]:
    """The data files of one split, which a file or its folder names: `train-00000-of-00002.parquet`, `test/a.jsonl`."""
    of_file = {file: split_of(file, folder, split) for file in files}
    present = sorted({name for name in of_file.values() if name})
    if split is None and len(present) > 1:
        raise UserError(f"{folder}: holds the splits {', '.join(present)}; choose one with split=")
    chosen = [file for file in files if split is None or of_file[file] == split.lower()]
    if files and not chosen:
        raise UserError(f"{folder}: no data files of split {split!r}; found {', '.join(present) or 'none named'}")
    return chosen


def _saved_dataset_rows(folder: Path, split: str | None) -> Iterator[tuple[str, Any]]:
    """The rows of a folder that `Dataset.save_to_disk` wrote: Arrow files, which the `datasets` package reads."""
    if not any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
        raise UserError(f"{folder}: holds no .jsonl, no .parquet and no saved dataset")
    try:
        import datasets
    except ImportError:
        raise UserError(
            f"{folder}: a saved dataset needs the datasets package; `pip install datasets`, or export it to .jsonl"
        ) from None
    loaded = datasets.load_from_disk(str(folder))
    if isinstance(loaded, Mapping):
        if split not in loaded:
            raise UserError(f"{folder}: split is {split!r}; choose one of {', '.join(sorted(loaded))} with split=")
        loaded = loaded[split]
    elif split is not None:
        raise UserError(f"{folder}: holds one dataset without splits, so split={split!r} chooses nothing; leave it out")
    for number, row in enumerate(loaded, start=1):
        yield f"{folder}:row {number}", without_absent(row)


# ---------------------------------------------------------------------------------------------- one row


def _prompt_of(row: Any, place: str, task: str | None, question_field: str, answer_field: str) -> Prompt:
    if not isinstance(row, dict):
        raise UserError(f"{place}: a row is a JSON object, got {type(row).__name__}; wrap it in {{...}}")
    name = task if task is not None else row.get("task")
    if not isinstance(name, str) or not name:
        raise UserError(f"{place}: field 'task' is {name!r}; name the task in the row or with task=")
    messages, reference = (
        _chat_row(row, place) if "messages" in row else _question_row(row, place, question_field, answer_field)
    )
    enable_thinking = _optional(row, place, "enable_thinking", bool)
    tools = _optional(row, place, "tools", list)
    if tools is not None and not all(isinstance(tool, dict) for tool in tools):
        raise UserError(f"{place}: field 'tools' must be a list of JSON objects")
    return Prompt(
        uid=prompt_uid(name, messages, tools, enable_thinking),
        task=name,
        messages=messages,
        reference=reference,
        enable_thinking=enable_thinking,
        tools=None if tools is None else tuple(tools),
        domain=_optional(row, place, "domain", str) or "",
        difficulty=_optional(row, place, "difficulty", int) or 0,
    )


def _chat_row(row: Mapping[str, Any], place: str) -> tuple[tuple[Message, ...], Any]:
    messages = row["messages"]
    if not isinstance(messages, list) or not messages:
        raise UserError(f"{place}: field 'messages' must be a list with at least one message, got {messages!r:.80}")
    for index, message in enumerate(messages):
        field = f"messages[{index}]"
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise UserError(f"{place}: field '{field}' must be an object whose role is one of {', '.join(ROLES)}")
        calls_only = message["role"] == "assistant" and message.get("tool_calls") and message.get("content") is None
        if not calls_only and not isinstance(message.get("content"), str):
            raise UserError(f"{place}: field '{field}.content' must be text, got {message.get('content')!r:.80}")
    if messages[-1]["role"] not in ("user", "tool"):
        raise UserError(
            f"{place}: field 'messages' ends with {messages[-1]['role']!r}; a prompt ends with user or tool"
        )
    if "reference" not in row:
        raise UserError(f"{place}: field 'reference' is missing; give what the task verifies against, or null")
    return tuple(messages), row["reference"]


def _question_row(
    row: Mapping[str, Any], place: str, question_field: str, answer_field: str
) -> tuple[tuple[Message, ...], Any]:
    names = (question_field, "prompt") if question_field == "question" else (question_field,)
    name = next((name for name in names if name in row), None)
    if name is None:
        raise UserError(
            f"{place}: field {question_field!r} is missing (the row has {', '.join(map(repr, row)) or 'none'}); "
            "name it with question_field= or give 'messages'"
        )
    question, answer = row[name], row.get(answer_field)
    if not isinstance(question, str) or not question.strip():
        raise UserError(f"{place}: field {name!r} must be text that is not empty, got {question!r:.80}")
    if isinstance(answer, bool) or not isinstance(answer, str | int | float) or not str(answer).strip():
        raise UserError(
            f"{place}: field {answer_field!r} must be text or a number, got {answer!r:.80}; "
            "name it with answer_field=, or use 'messages' and 'reference' for other shapes"
        )
    return ({"role": "user", "content": question},), {"answer": str(answer)}


def _optional(row: Mapping[str, Any], place: str, name: str, kind: type) -> Any:
    """An optional field of a row: absent and null are the same, any other type is refused."""
    value = row.get(name)
    if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        raise UserError(f"{place}: field {name!r} must be {kind.__name__}, got {value!r:.80}")
    return value
