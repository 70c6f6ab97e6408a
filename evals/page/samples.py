"""Rollouts packed for a page: columns to filter by, and the texts in compressed blocks that are opened when read.

Fifty thousand rollouts are hundreds of megabytes of JSON; no page opens with that. What the filters need is a handful
of small integers a row, which the page reads at once; a row's texts lie in a block of some hundred rows of one stage,
gzipped and in base64, which the page unpacks when one of them is looked at. A block never spans two stages and blocks
of rows that were packed before keep their name, so `fourstage watch` sends only what is new.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evals import markdown
from evals.markdown import Row
from evals.report_inputs import by_stage

BLOCK_ROWS = 200
"""Rows of one block: small enough to open in a moment, large enough to compress well."""

MAX_ROWS = 50_000
"""Most rows of one page; of more, each stage keeps its share, spread evenly over its steps."""

MAX_CHARACTERS = 20_000
"""Longest text of a row; the middle of a longer one is left out, and that is said in its place."""

COLUMNS = ("stage", "task", "mode", "outcome")
"""What can be filtered by name."""


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of one stage as base64 of gzipped JSON; `name` is a hash of what is in it."""

    name: str
    num_rows: int
    data: str


@dataclass(slots=True)
class BlockCache:
    """Blocks that were packed before, so that a refresh packs the new rows alone.

    Rows are never changed once read, so a block is the same when its first and its last row are the same objects and
    their number is.
    """

    _blocks: dict[tuple[str, int], tuple[Row, Row, int, Block]] = field(default_factory=dict)

    def block(self, stage: str, number: int, rows: Sequence[Row]) -> Block:
        held = self._blocks.get((stage, number))
        if held is not None and held[0] is rows[0] and held[1] is rows[-1] and held[2] == len(rows):
            return held[3]
        block = pack_block(rows)
        self._blocks[stage, number] = (rows[0], rows[-1], len(rows), block)
        return block


@dataclass(frozen=True, slots=True)
class PackedSamples:
    """What the page reads: `index` (columns and where each row lies), the blocks, and how many rows were left out."""

    index: Mapping[str, Any]
    blocks: tuple[Block, ...]
    num_left_out: int = 0

    @property
    def num_rows(self) -> int:
        return sum(block.num_rows for block in self.blocks)


def pack_samples(rows: Sequence[Row], cache: BlockCache | None = None, *, most: int = MAX_ROWS) -> PackedSamples:
    """All rows, stage by stage in the order in which the stages first come, at most about `most` of them."""
    cache = cache or BlockCache()
    stages = by_stage(rows)
    kept = {stage: spread(found, most * len(found) // max(1, len(rows))) for stage, found in stages.items()}
    if len(rows) <= most:
        kept = stages
    ordered = [row for found in kept.values() for row in found]
    blocks = [
        cache.block(stage, number, found[begin : begin + BLOCK_ROWS])
        for stage, found in kept.items()
        for number, begin in enumerate(range(0, len(found), BLOCK_ROWS))
    ]
    index = {
        **_columns(ordered),
        "blocks": [[block.name, block.num_rows] for block in blocks],
        "pairs": pairs(ordered),
    }
    return PackedSamples(index, tuple(blocks), len(rows) - len(ordered))


def spread(rows: Sequence[Row], most: int) -> list[Row]:
    """At most `most` rows (at least one) at even distances, the first among them."""
    most = max(1, most)
    if len(rows) <= most:
        return list(rows)
    return [rows[number * len(rows) // most] for number in range(most)]


def pairs(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Prompts that several stages were evaluated on: {"benchmark", "mode", "prompt", "rows": numbers of their rows}.

    Rollouts belong together when benchmark, mode and the prompt's uid agree; one of each stage is taken, in order.
    """
    groups: dict[tuple[str, str, str], dict[str, int]] = {}
    for number, row in enumerate(rows):
        if row.get("benchmark") is not None and row.get("uid"):
            place = (str(row["benchmark"]), str(row.get("mode", "")), str(row["uid"]))
            groups.setdefault(place, {}).setdefault(str(row.get("stage")), number)
    return [
        {"benchmark": benchmark, "mode": mode, "prompt": _title(rows[min(found.values())]), "rows": [*found.values()]}
        for (benchmark, mode, _), found in groups.items()
        if len(found) > 1
    ]


def pack_block(rows: Sequence[Row]) -> Block:
    """Rows as one block; texts past `MAX_CHARACTERS` lose their middle."""
    packed = [_bounded(_with_joined_pieces(row)) for row in rows]
    text = json.dumps(packed, ensure_ascii=True, separators=(",", ":"), default=str)
    name = hashlib.sha256(text.encode()).hexdigest()[:12]
    return Block(name, len(rows), base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode())


def packed_index(packed: PackedSamples) -> str:
    """The index in the form of a block's data."""
    text = json.dumps(packed.index, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()


def unpacked_rows(packed: PackedSamples) -> Iterator[Row]:
    """The rows as the page sees them, in order."""
    for block in packed.blocks:
        for row in json.loads(gzip.decompress(base64.b64decode(block.data))):
            if "rendered" in row:
                row["rendered"] = [_with_separate_pieces(part) for part in row["rendered"]]
            yield row


def _with_joined_pieces(row: Row) -> Row:
    """A row whose tokens are one text and their lengths: what repeats the completion then takes next to no room.

    Lengths count UTF-16 units, as the page's script does.
    """
    if not row.get("rendered"):
        return row
    parts = []
    for part in row["rendered"]:
        pieces = part["pieces"]
        lengths = [len(p) if p.isascii() else len(p.encode("utf-16-le", "surrogatepass")) // 2 for p in pieces]
        kept = {name: value for name, value in part.items() if name != "pieces"}
        parts.append({**kept, "text": "".join(pieces), "lengths": lengths})
    return {**row, "rendered": parts}


def _with_separate_pieces(part: Mapping[str, Any]) -> dict[str, Any]:
    units = part["text"].encode("utf-16-le", "surrogatepass")
    pieces = []
    begin = 0
    for length in part["lengths"]:
        pieces.append(units[2 * begin : 2 * (begin + length)].decode("utf-16-le", "surrogatepass"))
        begin += length
    return {"pieces": pieces, **{name: value for name, value in part.items() if name not in ("text", "lengths")}}


def _columns(rows: Sequence[Row]) -> dict[str, Any]:
    """Of each column to filter by its names and a number a row; steps and rewards (in thousandths, null: none)."""
    found: dict[str, Any] = {"names": {}, "columns": {}}
    for column in COLUMNS:
        numbers: dict[str, int] = {}
        values = [numbers.setdefault(_name(row.get(column)), len(numbers)) for row in rows]
        found["names"][column], found["columns"][column] = list(numbers), values
    found["columns"]["step"] = [int(markdown.number(row.get("step")) or 0) for row in rows]
    rewards = [markdown.number(row.get("reward")) for row in rows]
    found["columns"]["reward"] = [
        round(1000 * reward) if reward is not None and math.isfinite(reward) else None for reward in rewards
    ]
    return found


def _name(value: Any) -> str:
    return markdown.NOT_MEASURED if value is None else str(value)


def _title(row: Row) -> str:
    """The beginning of the last message of a prompt, on one line."""
    prompt = row.get("prompt")
    last = prompt[-1].get("content") if isinstance(prompt, list) and prompt else prompt
    words = " ".join(markdown.text(last if last is not None else "").split())
    return words if len(words) <= 90 else words[:89] + "…"


def _bounded(value: Any) -> Any:
    if isinstance(value, str) and len(value) > MAX_CHARACTERS:
        half = MAX_CHARACTERS // 2
        return f"{value[:half]}\n[… {len(value) - 2 * half:,} characters left out …]\n{value[-half:]}"
    if isinstance(value, Mapping):
        # Tokens are bounded by their number; a cut text would no longer fit their lengths.
        return {str(key): item if key == "rendered" else _bounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_bounded(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value  # JSON has no NaN
