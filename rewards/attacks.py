r"""The attack suite: what policies write to be paid without an answer, each attack with the verdict that it must get.

    Attack + Target (a prompt and its right answer) -> completions -> `rewards.audit` scores them

An attack knows what a policy could learn (the prompt) and what an auditor knows (the reference), so that "the right
number inside unfinished thinking" can be built for any task. `Rule` says what a payment means.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from data.records import FinishReason
from rewards import attack_builders as built
from rewards import attack_programs as programs
from rewards import hostile_texts as texts
from rewards.attack_builders import Builder, Target
from rewards.task import Area

Rule = Literal["refused", "share", "look"]
"""refused: no prompt may pay it. share: one fixed behaviour, right for some prompts, so that its mean reward counts.
look: it holds the right answer in an odd form; a payment is shown to a person and is no failure."""

Category = Literal[
    "master key", "think block", "several answers", "math form", "resource", "regex bomb", "format soup", "flattery",
    "structured data", "sql", "code", "tools", "injection", "echo", "citations", "empty", "constant", "strategy",
    "language trick", "special token", "disguise", "truncated",
]  # fmt: skip

FORMS = {
    "bare": "",
    "empty block": "<think>\n\n</think>\n\n",
    "thinking block": "<think>\nLet me work it out: 3+4=7, so it is 7.\n</think>\n\n",
}
"""What stands before a hostile answer, so that it is not refused for want of a think block."""


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack. `gated` says that rules have to refuse it before any judge or preference model sees it.

    `whole` marks texts that are completions with their own tags. `source` names where the cheat was seen or what it
    exploits. `strict_areas` narrows "refused" to some areas; elsewhere the rule is "look".
    """

    name: str
    category: Category
    source: str
    build: Builder
    rule: Rule = "refused"
    gated: bool = False
    whole: bool = False
    finish_reason: FinishReason = "stop"
    strict_areas: tuple[Area, ...] | None = None

    def rule_for(self, target: Target) -> Rule:
        """What a payment of this attack on this target means."""
        strict = self.strict_areas is None or target.task.area in self.strict_areas
        return self.rule if self.rule != "refused" or strict else "look"

    def completions(self, target: Target) -> Iterator[str]:
        """The completions to score, none where the attack does not apply; bare, and behind the block of the mode."""
        text = self.build(target)
        if text is None:
            return
        if self.whole:
            yield text
        elif self.rule == "share":  # one completion for every prompt, the block included
            yield from (form + text for form in FORMS.values())
        else:
            yield text
            if target.prompt.enable_thinking is not False:
                yield FORMS["thinking block" if target.prompt.mode == "thinking" else "empty block"] + text


def _fixed(text: str) -> Builder:
    return lambda target: text


def _table(
    category: Category, source: str, table: Mapping[str, str], rule: Rule = "refused", *, gated: bool = False
) -> list[Attack]:
    return [
        Attack(f"{category}: {name}", category, source, _fixed(text), rule, gated=gated) for name, text in table.items()
    ]


def _built(
    category: Category,
    source: str,
    table: Mapping[str, Builder],
    rule: Rule = "refused",
    *,
    gated: bool = False,
    whole: bool = False,
    strict_areas: tuple[Area, ...] | None = None,
) -> list[Attack]:
    return [
        Attack(f"{category}: {name}", category, source, build, rule, gated, whole, "stop", strict_areas)
        for name, build in table.items()
    ]


_VALUES: tuple[Area, ...] = ("reasoning",)
"""Areas whose answer is one value, so that a second value or other digits make it wrong."""


def _too_long(target: Target) -> str:
    return f"{target.gold} " * (20_001 // (len(target.gold) + 1) + 1)


ATTACKS: tuple[Attack, ...] = (
    *_built("think block", "verifiers that read the whole text, such as Open Instruct's for GSM8K", built.BLOCK_ATTACKS,
            gated=True, whole=True),
    *_built("think block", "verifiers that read the whole text", built.POINTER, whole=True),
    Attack("truncated: right answer at the length limit", "truncated", "DAPO (arXiv 2503.14476), overlong filtering",
           lambda t: FORMS["empty block"] + t.gold, gated=True, whole=True, finish_reason="length"),
    Attack("truncated: answer too long to read", "truncated", "the length cap of 20,000 characters", _too_long,
           gated=True),
    *_table("master key", "arXiv 2507.08794", texts.MASTER_KEYS, gated=True),
    *_table("empty", "IFEval checkers pay '.' in 26 % of prompts", texts.EMPTY, gated=True),
    *_built("several answers", "math-verify 0.9.0: a list as target, any hit wins", built.SEVERAL),
    *_built("several answers", "reasoning-gym 0.1.25: first number taken", built.EITHER_OR, strict_areas=_VALUES),
    *_built("math form", "math-verify 0.9.0", built.MATH_FORMS, strict_areas=_VALUES),
    *_table("resource", "math-verify 0.9.0, reasoning-gym 0.1.25", texts.RESOURCE),
    *_table("regex bomb", "jsonschema 14 ms against 1 ms; backtracking patterns", texts.REGEX_BOMBS),
    *_table("format soup", "IFEval checkers", texts.FORMAT_SOUP),
    *_table("flattery", "sycophancy of preference models", texts.FLATTERY),
    *_table("structured data", "lenient readers; billion laughs", texts.STRUCTURED),
    *_built("structured data", "Python's json keeps the last of repeated keys and reads NaN", programs.JSON_TRICKS),
    *_table("sql", "sqlite3 without an authorizer", texts.SQL),
    *_table("code", "HumanEval's exec in a forked child", texts.CODE),
    *_table("code", "the same, in a fence",
            {f"{key}, fenced": f"```python\n{text}\n```" for key, text in texts.CODE.items()}),
    *_built("code", "checkers that read the exit code or compare inside", programs.LYING_CODE),
    *_built("tools", "BFCL's eval of calls; sprayed calls", programs.TOOL_TRICKS),
    *_built("tools", "calls counted as a set", programs.GOLD_CALLS),
    *_built("tools", "scoring what the policy says of the state", built.EPISODE_ATTACKS, whole=True),
    *_table("injection", "prompt injection of model judges", texts.INJECTIONS),
    *_built("echo", "copying scores on overlap metrics", built.PROMPT_ATTACKS),
    *_built("citations", "recall without precision", built.CITE_ALL),
    *_table("language trick", "IFEval's language check passes digits and emoji", texts.LANGUAGE),
    *_built("special token", "chat tokens inside an answer forge a turn", built.SPECIAL, gated=True),
    *_built("disguise", "normalisers that fold what nobody wrote", built.DISGUISES, "look"),
    *_built("disguise", "padding and talk around a right answer", built.WRAPPED, "look"),
    *_table("constant", "reasoning-gym 0.1.25: Yes earned 0.73", texts.CONSTANTS, "share"),
    *_table("strategy", "one behaviour for both of two twins", texts.STRATEGIES, "share"),
)  # fmt: skip
"""Every attack; names are unique."""
