"""Changes the weights of a running server: close the gate, let what runs end, load, compare, open for the new version.

Everything that can be refused without the engine (damaged files, another shape, another tokenizer) is refused before
the gate closes, so that nobody waits for it; the same look brings the files into the page cache, which is most of what
loading costs. A load that fails is followed by one of the old weights. A server that can do neither serves nothing
more: an engine of which nobody knows what it computes must not answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from data.records import UserError
from serving.folder_rules import require_safe_folder, swap_fault
from serving.gate import Gate
from serving.live import SwapResult
from serving.registry import Version


class EngineLost(RuntimeError):
    """The engine holds neither the new weights nor the old ones, or is gone."""


class Weights(Protocol):
    """What a swap asks of the engine."""

    async def pause(self) -> None:
        """Wait for what still runs, hold back what is new, forget cached keys and values."""

    async def load(self, folder: Path) -> str | None:
        """Load the weights of a folder; what went wrong, None when the engine computes with them."""

    async def resume(self) -> None:
        """Go on."""


@dataclass(frozen=True, slots=True)
class SwapTimes:
    """Seconds of a swap: until what ran had ended, and from there until requests were let in again."""

    drain_s: float
    load_s: float

    @property
    def pause_s(self) -> float:
        """How long a request that came at the worst moment waited."""
        return self.drain_s + self.load_s


class Swapper:
    """Holds which version the engine has, and changes it; one change at a time.

    `verify` raises UserError for damaged files, `admit` for a whole version that this engine is not to serve.
    """

    def __init__(
        self,
        gate: Gate,
        weights: Weights,
        version: Version,
        *,
        verify: Callable[[Version], None],
        admit: Callable[[Version], None],
        drain_timeout_s: float,
        load_timeout_s: float,
    ) -> None:
        self.gate = gate
        self.version = version
        self.last_times: SwapTimes | None = None
        self._weights = weights
        self._verify = verify
        self._admit = admit
        self._drain_timeout_s = drain_timeout_s
        self._load_timeout_s = load_timeout_s

    async def to(self, version: Version) -> SwapResult:
        """Serve `version` from now on, or say why not and serve what was served; raises EngineLost."""
        if version.name == self.version.name:
            return SwapResult(version.name, 0.0, None)
        try:
            await asyncio.to_thread(self._check, version)
        except UserError as error:
            return SwapResult(self.version.name, 0.0, str(error))
        began = time.monotonic()
        self.gate.close()
        try:
            left = await self.gate.emptied(self._drain_timeout_s)
            drained = time.monotonic()
            failed = (
                f"{left} requests still ran after {self._drain_timeout_s:g} s; raise drain_timeout_s or try again later"
                if left
                else await self._load(version)
            )
        except Exception as error:
            self.gate.end("the engine lost its weights")
            if isinstance(error, EngineLost):
                raise
            raise EngineLost(f"the engine did not survive the change to {version.name} ({error!r})") from error
        if failed is None:
            self.version = version
        self.gate.open(self.version.name)
        self.last_times = SwapTimes(drained - began, time.monotonic() - drained)
        return SwapResult(self.version.name, self.last_times.pause_s, failed)

    def _check(self, version: Version) -> None:
        """Raise UserError unless the version is whole, safe, and fits into the engine as it runs."""
        self._verify(version)
        require_safe_folder(version.folder, field=f"version {version.name}")
        fault = swap_fault(self.version.folder, version.folder)
        if fault is not None:
            raise UserError(f"version {version.name}: {fault}")
        self._admit(version)

    async def _load(self, version: Version) -> str | None:
        async with asyncio.timeout(self._load_timeout_s):
            await self._weights.pause()
            fault = await self._weights.load(version.folder)
        if fault is not None:
            await self._restore(fault)
        async with asyncio.timeout(self._load_timeout_s):
            await self._weights.resume()
        return None if fault is None else f"version {version.name} did not load ({fault}); {self.version.name} stays"

    async def _restore(self, why: str) -> None:
        try:
            await asyncio.to_thread(self._verify, self.version)
        except UserError as error:
            raise EngineLost(f"after a failed load ({why}) the old version cannot be restored ({error})") from error
        async with asyncio.timeout(self._load_timeout_s):
            fault = await self._weights.load(self.version.folder)
        if fault is not None:
            raise EngineLost(f"after a failed load ({why}) the old version did not load either ({fault})")
