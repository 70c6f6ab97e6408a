"""Groups between their sampling and their training, with bounded staleness: who may begin, and what a step trains on.

    next_ticket(version) -> sampling -> finish -> take(version): the groups of one step, or None while they are missing

A run trains on groups 0, 1, 2, … (tickets), `groups_per_step` of them a step. The learner's version is the number of
steps it has made; with `max_staleness` k a group whose oldest token is of version v may be trained on by the step that
starts from version v + k at the latest: its deadline. Three rules keep that, and lose no group:

- A group may begin under version v while no more than (v + k + 1) · groups_per_step groups have begun in all. That is
  the capacity of the steps up to its deadline (AReaL, arXiv 2505.24298, staleness-aware training).
- A step takes finished groups, those with the earliest deadline first, not in the order in which they began: a long
  completion is passed over and carried on, not waited for.
- A step waits where passing over any longer would leave more groups than the steps up to their deadline can take.

Departure from systems that drop or restart what is late: long completions would be dropped most often, and the policy
would be trained towards short ones. Here the learner waits for them, at the last step that may have them. What is too
old all the same (an engine that kept old weights) is never handed out; it is counted and begins again.

A plain data structure without clock, engine or learner.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Finished(Generic[T]):
    version: int  # the oldest weights that had a part in it
    group: T


class RolloutBuffer(Generic[T]):
    """Which groups are in flight, finished or still to begin.

    `num_taken` groups were trained on before, `begun` names those of them and of the following ones that had begun and
    were not taken: they begin again, before any other. `num_groups` is the number of all groups of the run.
    """

    def __init__(
        self,
        *,
        groups_per_step: int,
        max_staleness: int,
        num_groups: int,
        num_taken: int = 0,
        begun: Sequence[int] = (),
    ) -> None:
        self.groups_per_step, self.max_staleness, self.num_groups = groups_per_step, max_staleness, num_groups
        self.num_taken = num_taken
        self.num_dropped = 0
        self._next = num_taken + len(begun)
        self._again = sorted(begun)
        self._in_flight: dict[int, int] = {}  # ticket -> version under which it began
        self._finished: dict[int, _Finished[T]] = {}

    @property
    def begun(self) -> list[int]:
        """Tickets that have begun and were not taken, in flight, finished or waiting to begin again."""
        return sorted([*self._again, *self._in_flight, *self._finished])

    def next_ticket(self, version: int) -> int | None:
        """The group to begin now with weights of `version`, None while the bound or the end of the run forbids one."""
        room = (version + self.max_staleness + 1) * self.groups_per_step - self.num_taken
        if len(self._in_flight) + len(self._finished) >= room:
            return None
        if self._again:
            ticket = self._again.pop(0)
        elif self._next < self.num_groups:
            ticket, self._next = self._next, self._next + 1
        else:
            return None
        self._in_flight[ticket] = version
        return ticket

    def finish(self, ticket: int, oldest_version: int, group: T) -> None:
        """All completions of a group are there; `oldest_version` is that of its oldest token.

        A group counts as old as the weights under which it began: a request that waited for its turn may have cached
        keys and values of these, whatever its tokens say.
        """
        began = self._in_flight.pop(ticket)
        self._finished[ticket] = _Finished(min(began, oldest_version), group)

    def take(self, version: int) -> list[tuple[int, T]] | None:
        """The groups of the step that starts from `version`, by ticket; None when it has to wait for more to finish."""
        self._drop_what_is_too_old(version)
        if len(self._finished) < self.groups_per_step:  # asked after every answer of an engine: no work in vain
            return None
        oldest_first = sorted(self._finished, key=lambda ticket: (self._finished[ticket].version, ticket))
        chosen = oldest_first[: self.groups_per_step]
        if not self._keeps_all_deadlines(version, oldest_first[self.groups_per_step :]):
            return None
        self.num_taken += len(chosen)
        return [(ticket, self._finished.pop(ticket).group) for ticket in sorted(chosen)]

    def _keeps_all_deadlines(self, version: int, passed_over: Sequence[int]) -> bool:
        """Whether what is in flight or `passed_over` can be trained on in time, a full step at a time."""
        num_by_deadline = Counter(oldest + self.max_staleness for oldest in self._in_flight.values())
        num_by_deadline.update(self._finished[ticket].version + self.max_staleness for ticket in passed_over)
        due = sum(num for deadline, num in num_by_deadline.items() if deadline < version)
        for step in range(version, version + self.max_staleness + 1):
            due += num_by_deadline[step]
            if due > (step - version) * self.groups_per_step:
                return False
        return True

    def _drop_what_is_too_old(self, version: int) -> None:
        late = [ticket for ticket, item in self._finished.items() if item.version + self.max_staleness < version]
        for ticket in late:
            del self._finished[ticket]
        self.num_dropped += len(late)
        self._again = sorted([*self._again, *late])
