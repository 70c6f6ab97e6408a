"""Moves an alias and sees to it that what serves it follows: promotion, and the way back.

    verdicts -> promote -> Registry.point (compare and swap) -> every live server of the alias answers
                                                             -> one of them failed: the alias goes back

The alias is the truth and moves in one step, so that whatever dies in between, it points at a complete, verified
version; a server follows by itself. A server that cannot load what the alias points to keeps its old weights and says
so, and then the alias returns to these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from data.records import UserError
from serving.gates import Verdict, failed
from serving.registry import AliasChange, ChangeKind, Registry, RegistryConflict, Version, version_before


class Swap(Protocol):
    """What a server says of a change (`serving.live.SwapResult`)."""

    @property
    def version(self) -> str: ...

    @property
    def pause_s(self) -> float: ...

    @property
    def failed(self) -> str | None: ...


class Server(Protocol):
    """A server that follows an alias (`serving.live.LiveServer`)."""

    def wait_for(self, generation: int, timeout_s: float) -> Swap: ...


ServersOf = Callable[[Registry, str], Sequence[Server]]


@dataclass(frozen=True, slots=True)
class Move:
    """What came of moving an alias: the change, what each server said, and the change back when one of them failed.

    `reason` is why nothing moved, or why it moved back; None when the alias is where it should be.
    """

    change: AliasChange | None
    swaps: tuple[Swap, ...] = ()
    undone: AliasChange | None = None
    reason: str | None = None

    @property
    def done(self) -> bool:
        return self.reason is None


def promote(
    registry: Registry,
    version: Version,
    alias: str,
    verdicts: Sequence[Verdict],
    *,
    seen: AliasChange | None,
    forced: str | None,
    servers_of: ServersOf,
    timeout_s: float,
) -> Move:
    """Point `alias` at a version whose gates passed, or with the reason `forced` in spite of those that did not.

    `seen` is the alias as it was when the gates were measured: they compared with that version, so that a move since
    then makes them void. Raises RegistryConflict for it, CheckpointError for a version that is damaged, forced or not.
    """
    missed = failed(verdicts)
    num_asked = sum(verdict.status != "off" for verdict in verdicts)
    if missed and forced is None:
        return Move(None, reason=f"{len(missed)} of {num_asked} gates failed: {', '.join(v.gate for v in missed)}")
    if seen is not None and seen.version == version.name:
        now = registry.alias(alias)
        if now != seen:
            raise RegistryConflict(f"alias {alias}: somebody else moved it meanwhile; look at `fourstage models`")
        return Move(None)
    reason = f"{num_asked - len(missed)} of {num_asked} gates passed"
    return move(
        registry, alias, version.name, seen=seen, reason=reason, forced=forced if missed else None,
        kind="promote", servers_of=servers_of, timeout_s=timeout_s,
    )  # fmt: skip


def rollback(registry: Registry, alias: str, *, reason: str, servers_of: ServersOf, timeout_s: float) -> Move:
    """Point `alias` at the version before, after comparing its files with their hashes.

    Raises UserError when there is no version before; RegistryConflict and CheckpointError as `promote` does.
    """
    history = registry.history(alias)
    before = version_before(history)
    if before is None:
        state = f"is at {history[-1].version}, and nothing came before it" if history else "points nowhere"
        raise UserError(f"alias {alias}: {state}; promote a version instead")
    return move(
        registry, alias, before, seen=history[-1], reason=reason, forced=None,
        kind="rollback", servers_of=servers_of, timeout_s=timeout_s,
    )  # fmt: skip


def move(
    registry: Registry,
    alias: str,
    version: str,
    *,
    seen: AliasChange | None,
    reason: str,
    forced: str | None,
    kind: ChangeKind,
    servers_of: ServersOf,
    timeout_s: float,
) -> Move:
    """Move the alias, wait for its servers, and move it back when one of them failed."""
    servers_of(registry, alias)  # a list that cannot be read stops this before anything moved
    expected = seen.generation if seen is not None else 0
    change = registry.point(alias, version, expected_generation=expected, reason=reason, forced=forced, kind=kind)
    swaps = tuple(server.wait_for(change.generation, timeout_s) for server in servers_of(registry, alias))
    faults = [swap.failed for swap in swaps if swap.failed is not None]
    if not faults:
        return Move(change, swaps)
    if change.before is None:
        return Move(change, swaps, reason=f"{faults[0]}; there is no version before to return to")
    undone = registry.point(
        alias,
        change.before,
        expected_generation=change.generation,
        reason=f"undone: {faults[0]}",
        kind="rollback" if kind == "promote" else "promote",  # the pile of versions is as it was before
    )
    for server in servers_of(registry, alias):  # those that had changed their weights change them back
        server.wait_for(undone.generation, timeout_s)
    return Move(change, swaps, undone, f"{faults[0]}; {alias} is at {undone.version} as before")
