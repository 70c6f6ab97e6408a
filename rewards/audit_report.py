"""What an audit found, as a record, a table row, and lines for a person."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["paid", "failed", "hung", "slow", "constant", "reached the model", "forged"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One way in which a task fails the audit, with the first text that shows it; `count` texts did the same."""

    kind: Kind
    name: str
    detail: str
    prompt_uid: str
    text: str
    count: int = 1

    def document(self) -> dict[str, Any]:
        return {
            "kind": self.kind, "name": self.name, "count": self.count, "detail": self.detail,
            "prompt": self.prompt_uid, "text": shortened(self.text),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What the audit of one task found. `looks` are payments that a person should read and that are no failures."""

    task: str
    num_attacks: int
    num_attack_texts: int
    num_fuzz_texts: int
    findings: tuple[Finding, ...]
    looks: tuple[Finding, ...]
    worst_fuzz_reward: float
    best_constant: str
    best_constant_reward: float
    slowest_s: float
    slowest_text: str
    num_left_to_model: int
    seconds: float

    @property
    def passed(self) -> bool:
        return not self.findings

    def count(self, *kinds: Kind) -> int:
        """How many texts made findings of these kinds."""
        return sum(finding.count for finding in self.findings if finding.kind in kinds)

    def row(self) -> dict[str, Any]:
        """The figures of one task, for a table."""
        return {
            "task": self.task,
            "passed": "yes" if self.passed else "NO",
            "attacks": self.num_attacks,
            "paid": self.count("paid", "constant"),
            "errors": self.count("failed", "hung", "slow", "reached the model", "forged"),
            "slowest_ms": round(1000 * self.slowest_s, 1),
            "fuzz_texts": self.num_fuzz_texts,
            "worst_reward": self.worst_fuzz_reward,
            "to_look_at": sum(look.count for look in self.looks),
        }

    def document(self) -> dict[str, Any]:
        """The whole report as JSON."""
        return {
            **self.row(),
            "passed": self.passed,
            "attack_texts": self.num_attack_texts,
            "left_to_model": self.num_left_to_model,
            "best_constant": self.best_constant_reward,
            "best_constant_name": self.best_constant,
            "slowest_text": shortened(self.slowest_text),
            "seconds": round(self.seconds, 1),
            "findings": [finding.document() for finding in self.findings],
            "looks": [look.document() for look in self.looks],
        }

    def lines(self) -> Iterator[str]:
        """One line per finding, with the offending text shortened."""
        for finding in self.findings:
            yield f"{self.task}: {finding.kind}: {finding.name} ({finding.count} texts): {finding.detail}"
            yield f"    prompt {finding.prompt_uid}, text {shortened(finding.text)}"


def shortened(text: str, limit: int = 160) -> str:
    """A text on one line, its middle cut out, every character that would not print escaped."""
    shown = repr(text)
    return shown if len(shown) <= limit else f"{shown[: limit - 40]} … {len(text):,} characters … {shown[-20:]}"
