"""Who is let in, who waits, and that a version changes only while nobody is inside."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.gate import Gate, Refusal


def gate(max_requests: int = 10, hold_timeout_s: float = 5.0) -> Gate:
    return Gate("v1", max_requests=max_requests, hold_timeout_s=hold_timeout_s)


def run(scenario: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(scenario, 20))


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class Visitor:
    """A request that stays inside until it is told to leave."""

    def __init__(self, gate: Gate) -> None:
        self.leave = asyncio.Event()
        self.version: str | None = None
        self.task = asyncio.create_task(self._visit(gate))

    async def _visit(self, gate: Gate) -> str:
        async with gate.enter() as version:
            self.version = version
            await self.leave.wait()
        return version


def test_a_request_gets_the_version_that_serves() -> None:
    async def scenario() -> None:
        door = gate()
        async with door.enter() as version:
            assert (version, door.num_inside) == ("v1", 1)
        assert door.num_inside == 0

    run(scenario())


def test_a_request_that_comes_while_the_gate_is_closed_waits_and_gets_the_new_version() -> None:
    async def scenario() -> None:
        door = gate()
        before = Visitor(door)
        await turns()
        door.close()
        after = Visitor(door)
        await turns()
        assert (before.version, after.version, door.num_inside, door.num_waiting) == ("v1", None, 1, 1)
        emptied = asyncio.create_task(door.emptied(5))
        await turns()
        assert not emptied.done()
        before.leave.set()
        assert await emptied == 0
        door.open("v2")
        await turns()
        assert (after.version, door.num_waiting) == ("v2", 0)
        after.leave.set()
        assert (await before.task, await after.task) == ("v1", "v2")

    run(scenario())


def test_who_does_not_leave_in_time_is_counted_and_the_old_version_goes_on() -> None:
    async def scenario() -> None:
        door = gate()
        visitors = [Visitor(door), Visitor(door)]
        await turns()
        door.close()
        assert await door.emptied(0.01) == 2
        with pytest.raises(RuntimeError, match="2 requests are inside"):
            door.open("v2")
        door.open("v1")
        async with door.enter() as version:
            assert version == "v1"
        for visitor in visitors:
            visitor.leave.set()

    run(scenario())


def test_one_more_than_may_be_here_is_refused_with_the_time_to_wait() -> None:
    async def scenario() -> None:
        door = gate(max_requests=2)
        visitors = [Visitor(door)]
        await turns()
        door.close()
        visitors.append(Visitor(door))  # who waits counts as well
        await turns()
        with pytest.raises(Refusal) as refusal:
            async with door.enter():
                raise AssertionError("was let in")
        assert (refusal.value.status, refusal.value.retry_after_s) == (429, 1)
        door.open("v1")
        for visitor in visitors:
            visitor.leave.set()
            await visitor.task
        async with door.enter():
            assert door.num_inside == 1

    run(scenario())


def test_who_arrives_takes_a_place_and_no_swap_waits_for_it() -> None:
    async def scenario() -> None:
        door = gate(max_requests=2)
        with door.arriving(), door.arriving():
            assert await door.emptied(1) == 0
            with pytest.raises(Refusal, match="2 requests are being served"), door.arriving():
                raise AssertionError("was let in")
            with pytest.raises(Refusal, match="2 requests are being served") as refusal:
                await door.enter().__aenter__()
            assert refusal.value.status == 429
        async with door.enter(), door.enter():
            assert (door.num_arriving, door.num_inside) == (0, 2)
            with pytest.raises(Refusal), door.arriving():
                raise AssertionError("was let in")

    run(scenario())


def test_who_waits_too_long_is_told_to_come_back() -> None:
    async def scenario() -> None:
        door = gate(hold_timeout_s=0.01)
        door.close()
        with pytest.raises(Refusal) as refusal:
            async with door.enter():
                raise AssertionError("was let in")
        assert (refusal.value.status, refusal.value.retry_after_s, door.num_waiting) == (503, 1, 0)

    run(scenario())


def test_at_the_end_everybody_is_refused_who_waits_and_who_comes() -> None:
    async def scenario() -> None:
        door = gate()
        door.close()
        waiting = Visitor(door)
        await turns()
        door.end("the server is ending")
        with pytest.raises(Refusal, match="the server is ending"):
            await waiting.task
        with pytest.raises(Refusal, match="the server is ending") as refusal:
            async with door.enter():
                raise AssertionError("was let in")
        assert refusal.value.status == 503

    run(scenario())


def test_a_request_that_fails_or_is_cancelled_is_counted_out() -> None:
    async def scenario() -> None:
        door = gate()
        with pytest.raises(ValueError, match="inside"):
            async with door.enter():
                raise ValueError("inside")
        visitor = Visitor(door)
        await turns()
        visitor.task.cancel()
        await turns()
        assert door.num_inside == 0
        assert await door.emptied(1) == 0
        door.close()
        waiting = Visitor(door)
        await turns()
        waiting.task.cancel()
        await turns()
        assert door.num_waiting == 0

    run(scenario())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["come", "leave", "swap", "turn"]), max_size=40))
def test_in_any_order_of_events_nobody_is_inside_while_the_version_changes(events: list[str]) -> None:
    async def scenario() -> None:
        door, visitors, swaps, number = gate(max_requests=1000), [], [], 1  # type: ignore[var-annotated]

        async def swap(name: str) -> None:
            async with lock:
                door.close()
                assert await door.emptied(10) == 0
                await asyncio.sleep(0)  # the weights change here
                assert door.num_inside == 0
                door.open(name)

        lock = asyncio.Lock()
        for event in events:
            if event == "come":
                visitors.append(Visitor(door))
            elif event == "leave" and visitors:
                visitors[len(visitors) // 2].leave.set()
            elif event == "swap":
                number += 1
                swaps.append(asyncio.create_task(swap(f"v{number}")))
            await turns(2)
        for visitor in visitors:
            visitor.leave.set()
        await asyncio.gather(*swaps)
        names = await asyncio.gather(*(visitor.task for visitor in visitors))
        assert names == sorted(names, key=lambda name: int(name[1:]))  # who came later never got an older version
        assert door.num_inside == 0

    run(scenario())
