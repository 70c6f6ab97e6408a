"""Runs the attack suite and the fuzzer against a task and says what was paid, what failed and what took too long.

    Task -> targets (prompts of every level with right answers) -> attacks, constants, noise -> AuditReport

A task passes when no hostile text earns more than its floor, no scorer fails, hangs or takes longer than `SLOW_S`, no
constant earns more than a coin would, and what rules have to refuse never reaches a judge or preference model. A judge
is audited by its conversation: a response must not change a word outside its fence.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from data.records import Message, Score
from rewards.audit_report import AuditReport, Finding, Kind
from rewards.audit_shots import FIRST_LOOK, AuditSize, Shot, attack_shots, fuzz_shots, targets_of
from rewards.extract import parse_request
from rewards.judge import conversation
from rewards.probe import Observation, Probe, Trial
from rewards.task import ScoreRequest, Task
from rewards.verifier_pool import VerifierPool

SLOW_S = 0.25
"""Processor seconds that an inline scorer may take for one text of at most 20,000 characters; ordinary answers take
well under a millisecond, and a batch of thousands must not wait for one."""

MAX_HUNG = 3
"""After so many hung or dead scorers the audit of a task ends: each costs the whole time limit."""

CHANCE = 0.5
"""What a constant may earn on average: half of the twins."""

BATCH = 256
JUDGED_CHARS = 8000
_ORDINARY = "<think>\n\n</think>\n\nAn ordinary answer."
_CONTROL_TOKENS = ("<|", "<think>", "</think>", "[INST]", "</s>")


def audit_tasks(
    tasks: Sequence[Task],
    *,
    seed: int,
    size: AuditSize,
    on_progress: Callable[[str, int, int], None] = lambda task, done, total: None,
) -> list[AuditReport]:
    """Attack tasks one after another; `on_progress` hears (name, texts done, texts in all)."""
    with Probe() as probe, VerifierPool() as pool:
        return [
            audit_task(task, probe, pool, seed=seed, size=size, on_progress=functools.partial(on_progress, task.name))
            for task in tasks
        ]


def audit_task(
    task: Task,
    probe: Probe,
    pool: VerifierPool,
    *,
    seed: int,
    size: AuditSize,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> AuditReport:
    """Attack one task and report. `pool` runs the verifiers that need a worker; `on_progress` hears (done, total)."""
    start = time.perf_counter()
    ledger = _Ledger(task)
    shots = [*attack_shots(task, seed, size), *fuzz_shots(task, seed, size)]
    fired = 0
    while fired < len(shots) and ledger.num_hung < MAX_HUNG:
        on_progress(fired, len(shots))
        ledger.enter(_fired(task, probe, pool, shots[fired : fired + BATCH]))
        fired = min(fired + BATCH, len(shots))
        if fired == len(shots) and not ledger.looked_closer:
            shots += ledger.closer_look(seed, size)
    on_progress(len(shots), len(shots))
    return ledger.report(shots[:fired], time.perf_counter() - start)


# --- how it is scored -----------------------------------------------------------------------------------------------


def _fired(task: Task, probe: Probe, pool: VerifierPool, shots: Sequence[Shot]) -> list[tuple[Shot, Observation, bool]]:
    """Shots with their observations, and whether a model would be asked. Stops early when scorers keep hanging."""
    seen: list[Observation] = []
    num_hung = 0
    for observation in probe.observe(task, [shot.trial for shot in shots]):
        seen.append(observation)
        num_hung += observation.failure.startswith(("hung", "died"))
        if num_hung >= MAX_HUNG:
            break
    seen = [_slow_twice(task, probe, shot, observation) for shot, observation in zip(shots, seen, strict=False)]
    undecided = [o.request for o in seen if o.score is None and not o.failure and o.request is not None]
    verdicts = iter(pool.score_all(undecided) if task.in_worker else [None] * len(undecided))
    fired = []
    for shot, observation in zip(shots, seen, strict=False):
        score = observation.score
        if score is None and not observation.failure:
            score = next(verdicts)
        failure = observation.failure or (f"error: {score.reason}" if score and score.outcome == "error" else "")
        completed = Observation(observation.request, score, observation.cpu_s, failure)
        fired.append((shot, completed, score is None and not failure))
    return fired


def _slow_twice(task: Task, probe: Probe, shot: Shot, observation: Observation) -> Observation:
    """The observation, made again when it was slow: the first text of a kind may load a library or a model."""
    if observation.cpu_s <= SLOW_S or observation.failure:
        return observation
    (again,) = probe.observe(task, [shot.trial])
    return again if again.failure or again.cpu_s < observation.cpu_s else observation


def forgery(task: Task, request: ScoreRequest) -> str:
    """How a response changes what the judge reads outside its fence; "" when it does not."""
    if task.judge_question is None:
        return ""
    ordinary = dataclasses.replace(request, completion=_ORDINARY)
    question, expected = (task.judge_question(each, parse_request(each)) for each in (request, ordinary))
    if dataclasses.replace(question, response="") != dataclasses.replace(expected, response=""):
        return "the response changes the question, the reference or the criterion"
    nonce = "c0ffee" * 5
    said, usual = (conversation(each, nonce, JUDGED_CHARS) for each in (question, expected))
    outside, inside = _around_fence(said, nonce)
    if outside is None or outside != _around_fence(usual, nonce)[0]:
        return "the response breaks out of its fence"
    return "the response holds control tokens" if any(token in inside for token in _CONTROL_TOKENS) else ""


def _around_fence(said: Sequence[Message], nonce: str) -> tuple[list[str] | None, str]:
    """What the judge reads outside the response, and the response; None when there is more than one fence."""
    body = str(said[-1]["content"])
    opening, closing = f"=== {nonce} begin ===\n", f"\n=== {nonce} end ==="
    if (body.count(opening), body.count(closing), body.count(nonce)) != (1, 1, 2):
        return None, body
    before, _, rest = body.partition(opening)
    inside, _, after = rest.partition(closing)
    return [*(str(message["content"]) for message in said[:-1]), before, after], inside


# --- what it means --------------------------------------------------------------------------------------------------


class _Ledger:
    """Collects what was seen of one task; `report` sums it up."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.findings: dict[tuple[Kind, str], list[tuple[Shot, str]]] = defaultdict(list)
        self.looks: dict[str, list[tuple[Shot, str]]] = defaultdict(list)
        self.shares: dict[tuple[str, int], list[float]] = defaultdict(list)
        self.shared: dict[tuple[str, int], Shot] = {}
        self.slowest: tuple[float, str] = (0.0, "")
        self.worst_fuzz_reward = 0.0
        self.num_left = self.num_hung = 0
        self.looked_closer = False

    def enter(self, fired: Iterable[tuple[Shot, Observation, bool]]) -> None:
        for shot, observation, asks_model in fired:
            text = shot.trial.completion
            failed = observation.failure
            if failed:
                hung = failed.startswith(("hung", "died"))
                self.num_hung += hung
                self._find("hung" if hung else "failed", shot, failed)
                continue
            self.slowest = max(self.slowest, (observation.cpu_s, text))
            if observation.cpu_s > SLOW_S:
                self._find("slow", shot, f"{observation.cpu_s:.2f} processor seconds")
            if asks_model and observation.request is not None:
                self._left_to_model(shot, observation.request)
            elif observation.score is not None:
                self._graded(shot, observation.score)

    def closer_look(self, seed: int, size: AuditSize) -> list[Shot]:
        """The constants that earned something on few prompts, on the rest of the prompts of their level."""
        self.looked_closer = True
        paid = {key: self.shared[key].trial.completion for key, rewards in self.shares.items() if any(rewards)}
        targets = {level: targets_of(self.task, level, seed, size.num_constant_prompts) for _, level in paid}
        return [
            Shot(name, "share", target, Trial(target.prompt, completion))
            for (name, level), completion in paid.items()
            for target in targets[level][FIRST_LOOK:]
        ]

    def _find(self, kind: Kind, shot: Shot, detail: str) -> None:
        self.findings[kind, shot.name].append((shot, detail))

    def _left_to_model(self, shot: Shot, request: ScoreRequest) -> None:
        self.num_left += 1
        if shot.gated:
            self._find("reached the model", shot, "rules have to refuse this before a model is asked")
        if forged := forgery(self.task, request):
            self._find("forged", shot, forged)

    def _graded(self, shot: Shot, score: Score) -> None:
        reward = score.reward or 0.0
        if shot.rule == "share":
            key = shot.name, shot.target.prompt.difficulty
            self.shares[key].append(reward)
            self.shared.setdefault(key, shot)
            return
        if shot.fuzzed and shot.rule == "refused":
            self.worst_fuzz_reward = max(self.worst_fuzz_reward, reward)
        if reward > self.task.floor:
            detail = f"reward {reward:g}, right answer {shot.target.gold!r:.60}"
            (self.findings["paid", shot.name] if shot.rule == "refused" else self.looks[shot.name]).append(
                (shot, detail)
            )

    def report(self, shots: Sequence[Shot], seconds: float) -> AuditReport:
        best, best_name = 0.0, ""
        for (name, level), rewards in self.shares.items():
            mean = math.fsum(rewards) / len(rewards)
            best, best_name = max((best, best_name), (mean, f"{name}, level {level}"))
            bound = max(CHANCE, self.task.floor) + 3 * math.sqrt(0.25 / len(rewards))
            if mean > bound:
                self._find(
                    "constant", self.shared[name, level], f"mean reward {mean:.2f} at level {level}, bound {bound:.2f}"
                )
        return AuditReport(
            task=self.task.name,
            num_attacks=len({shot.name.partition(" (")[0] for shot in shots if not shot.fuzzed}),
            num_attack_texts=sum(not shot.fuzzed for shot in shots),
            num_fuzz_texts=sum(shot.fuzzed for shot in shots),
            findings=tuple(_finding(kind, name, seen) for (kind, name), seen in self.findings.items()),
            looks=tuple(_finding("paid", name, seen) for name, seen in self.looks.items()),
            worst_fuzz_reward=self.worst_fuzz_reward,
            best_constant=best_name,
            best_constant_reward=best,
            slowest_s=self.slowest[0],
            slowest_text=self.slowest[1],
            num_left_to_model=self.num_left,
            seconds=seconds,
        )


def _finding(kind: Kind, name: str, seen: Sequence[tuple[Shot, str]]) -> Finding:
    shot, detail = seen[0]
    return Finding(kind, name, detail, shot.target.prompt.uid, shot.trial.completion, len(seen))
