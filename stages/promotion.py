"""`fourstage promote` and `rollback` from end to end, and the promotion that a recipe may end in.

checkpoint -> the registry (a copy, verified) -> figures -> verdicts -> card -> the alias moves -> servers follow
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from data.files import read_json, write_json
from data.records import UserError
from learner.checkpoint import CheckpointError, read_manifest
from serving.figures import Figures, LineageFigures, Unmeasured
from serving.gates import Verdict, failed, judge
from serving.gates_config import GatesConfig, PromotionConfig, load_gates
from serving.gates_record import write_gates_record
from serving.live import servers_of
from serving.model_card import card_name, model_card
from serving.promote import Move, promote, rollback
from serving.registry import AliasChange, Registry, Version, content_hash
from stages.gate_measuring import measure_figures, suite_of

EVALUATIONS = Path("runs/eval")
"""Where `fourstage eval` keeps its measurements by default, so that none is made twice."""


@dataclass(frozen=True, slots=True)
class Promotion:
    """What a promotion came to: verdicts, the version (None when nothing was added), the move (None for a dry run)."""

    alias: str
    candidate: str
    version: Version | None
    verdicts: tuple[Verdict, ...]
    move: Move | None
    card: Path | None

    @property
    def passed(self) -> bool:
        return not failed(self.verdicts)

    def document(self) -> dict[str, Any]:
        """The promotion as JSON."""
        move = self.move
        return {
            "alias": self.alias,
            "candidate": self.candidate,
            "version": self.version.name if self.version is not None else None,
            "passed": self.passed,
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
            "card": str(self.card) if self.card is not None else None,
            "move": None if move is None else move_document(move),
        }


def move_document(move: Move) -> dict[str, Any]:
    """A move as JSON."""
    swaps = [{"version": swap.version, "pause_s": swap.pause_s, "failed": swap.failed} for swap in move.swaps]
    return {
        "done": move.done,
        "change": None if move.change is None else asdict(move.change),
        "undone": None if move.undone is None else asdict(move.undone),
        "reason": move.reason,
        "swaps": swaps,
    }


def promote_checkpoint(
    registry: Registry,
    checkpoint: str,
    alias: str,
    config: GatesConfig,
    *,
    dry_run: bool = False,
    forced: str | None = None,
    out: Path = EVALUATIONS,
    plain: bool | None = None,
) -> Promotion:
    """Run all gates on a checkpoint folder, version or alias, and move `alias` when they pass or `forced` says why not.

    A dry run writes nothing into the registry. A checkpoint that the registry refuses, such as one with a damaged file,
    goes through the other gates all the same, and cannot be forced.
    """
    if forced is not None and not forced.strip():
        raise UserError("--force: the reason is empty; say why the gates are passed over")
    seen = registry.alias(alias)
    current = registry.version(seen.version) if seen is not None else None
    version, folder, fault = _candidate(registry, checkpoint, dry_run=dry_run)
    figures = measure_figures(config, folder, current, out, plain=plain)
    verdicts = tuple(judge(config, figures))
    if dry_run:
        return Promotion(alias, checkpoint, version, verdicts, None, None)
    if version is None:
        return Promotion(
            alias, checkpoint, None, verdicts, Move(None, reason=f"the registry refuses it: {fault}"), None
        )
    write_gates_record(registry, version, figures, verdicts, alias=alias, forced=forced)
    card = _write_card(registry, version, config, figures, verdicts, alias=alias, forced=forced)
    move = promote(
        registry, version, alias, verdicts,
        seen=seen, forced=forced, servers_of=servers_of, timeout_s=config.swap_timeout_s,
    )  # fmt: skip
    return Promotion(alias, checkpoint, version, verdicts, move, card)


def _candidate(registry: Registry, checkpoint: str, *, dry_run: bool) -> tuple[Version | None, Path, str | None]:
    """The version to promote with its folder; for a checkpoint that is not in the registry None and its own folder.

    The third is why the registry refuses a damaged checkpoint. A full disk, or a place that cannot be written, is no
    fault of the checkpoint's and raises UserError.
    """
    folder = Path(checkpoint)
    named = [*registry.aliases(), *registry.names()]
    if checkpoint in named and folder.is_dir():
        raise UserError(
            f"CHECKPOINT: {checkpoint} is a folder here and a name in the registry; write ./{checkpoint} for the "
            "folder, or call from elsewhere"
        )
    if not folder.is_dir():
        if "/" in checkpoint:
            raise UserError(f"CHECKPOINT: {checkpoint} is no folder; give a checkpoint folder, a version or an alias")
        version = registry.resolve(checkpoint)
        return version, version.folder, None
    if dry_run:
        return None, folder, None
    try:
        version = registry.add(folder)
    except CheckpointError as error:
        return None, folder, str(error)
    return version, version.folder, None


def _write_card(
    registry: Registry,
    version: Version,
    config: GatesConfig,
    figures: Figures,
    verdicts: Sequence[Verdict],
    *,
    alias: str,
    forced: str | None,
) -> Path:
    lineage = None if isinstance(figures.lineage, Unmeasured) else figures.lineage
    text = model_card(
        version,
        verdicts,
        lineage,
        alias=alias,
        licence=config.licence.spdx or _declared(lineage),
        compared_with=figures.current,
        forced=forced,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return registry.write_beside(version, card_name(version.manifest), text)


def _declared(lineage: LineageFigures | None) -> str | None:
    return lineage.licence if lineage is not None else None


def rollback_alias(registry: Registry, alias: str, *, reason: str, timeout_s: float) -> Move:
    """Return an alias to the version before, in the registry and in every server that follows it."""
    return rollback(registry, alias, reason=reason, servers_of=servers_of, timeout_s=timeout_s)


def check_promotion(config: PromotionConfig) -> None:
    """Raise UserError, naming the setting, for gates that a run could not be judged by when it ends."""
    gates = load_gates(config.gates, config.gate_settings)
    if gates.needs_engine:
        suite_of(gates)


def promote_run(
    config: PromotionConfig, checkpoint: Path, run_dir: Path, *, plain: bool | None
) -> tuple[list[str], list[str]]:
    """The end of a run: its checkpoint goes to staging, and to production when the gates pass.

    Staging takes any checkpoint that is whole and is what it says. Where the checkpoint was before it is not put again:
    a run that is called once more must not undo a rollback, nor a promotion of something newer. Writes `promotion.json`
    into the run directory. Returns lines that say what came of it, and those that say what was refused.
    """
    registry, gates = Registry(config.registry), load_gates(config.gates, config.gate_settings)
    bare = GatesConfig(
        name="staging", licence=gates.licence, parity=None, benchmarks=None, think_follow=None, load=None
    )
    path = run_dir / "promotion.json"
    rows = {row["alias"]: row for row in read_json(path)} if path.exists() else {}
    lines: list[str] = []
    refused: list[str] = []
    for alias, asked in ((config.staging, bare), (config.production, gates)):
        if alias is None:
            continue
        earlier = _earlier_move(registry, checkpoint, alias)
        if earlier is not None:
            lines.append(
                f"{alias}: {earlier.version} was promoted before (generation {earlier.generation}), which is not done "
                f"again; `fourstage promote {earlier.version} --to {alias}` does it"
            )
            continue
        promotion = promote_checkpoint(registry, str(checkpoint), alias, asked, plain=plain)
        done = promotion.move is not None and promotion.move.done
        (lines if done else refused).extend(promotion_lines(promotion))
        rows[alias] = promotion.document()
        write_json(path, list(rows.values()))
    return lines, refused


def _earlier_move(registry: Registry, checkpoint: Path, alias: str) -> AliasChange | None:
    """The newest move of an alias to the content of this checkpoint, None when it was never there."""
    name = registry.name_of(content_hash(read_manifest(checkpoint)))
    return next((change for change in reversed(registry.history(alias)) if change.version == name), None)


def promotion_lines(promotion: Promotion) -> list[str]:
    """What came of a promotion, in a line or two."""
    name = promotion.version.name if promotion.version is not None else promotion.candidate
    move = promotion.move
    if move is None:
        outcome = "would pass" if promotion.passed else "would be refused"
        return [f"dry run: {name} {outcome} for {promotion.alias}; nothing was changed"]
    if not move.done:
        missed = [f"{v.gate}: {v.measured}; asked for: {v.required}" for v in failed(promotion.verdicts)]
        return [f"{promotion.alias}: {name} was not promoted: {move.reason}", *missed]
    if move.change is None:
        return [f"{promotion.alias}: is at {name} already"]
    return move_lines(move)


def move_lines(move: Move) -> list[str]:
    """Where an alias is now, and what each server said."""
    change = move.change
    assert change is not None
    before = f", {change.before} before" if change.before is not None else ""
    forced = f"; forced: {change.forced}" if change.forced is not None else ""
    lines = [f"{change.alias}: is at {change.version}{before} (generation {change.generation}){forced}"]
    for swap in move.swaps:
        outcome = swap.failed or f"serves {swap.version}, new requests waited {swap.pause_s:.2f} s"
        lines.append(f"server: {outcome}")
    return lines
