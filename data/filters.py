"""Decides which queries and which responses are worth training on, and counts everything it drops.

The filters are those of the Qwen3 report (arXiv 2505.09388): section 4.1 for the queries and responses of the
long-CoT cold start, section 4.2 for the queries of reasoning RL. The report says what is filtered, not how; every rule
and number below is a documented choice of this project. The report asks a model whether a query can be verified and in
which domain it lies: here the first is a heuristic on the text and the second is `Prompt.domain`, so that filtering
needs no engine. The measures are in `data.ngrams` and `data.text_signals`; decontamination is re-exported from here.

Every filter returns the kept items in their order and a `FilterReport` in which each dropped item has one reason.
A failed verifier is a reason of its own and never a wrong answer.
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from data.ngrams import ContaminationError, Decontaminator, NgramIndex, assert_clean, repetition_share, tokens
from data.records import Prompt, Score, UserError
from data.text_signals import derived, final_value, foreign_share, has_guess_marker, same_value, script_shares

__all__ = [
    "Candidate",
    "ContaminationError",
    "Decontaminator",
    "FilterReport",
    "ResponseFilterConfig",
    "assert_clean",
    "balance_by_domain",
    "decontaminate",
    "deduplicate",
    "filter_responses",
    "final_value",
    "learnable",
    "needs_reasoning",
    "question_text",
    "verifiable",
]

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class FilterReport:
    """How many items a filter kept, and how many it dropped for each reason."""

    kept: int
    dropped_by_reason: Mapping[str, int] = field(default_factory=dict)

    @property
    def dropped(self) -> int:
        """The number of items that were dropped for any reason."""
        return sum(self.dropped_by_reason.values())

    def then(self, later: FilterReport) -> FilterReport:
        """The report of this filter followed by `later`; raises `ValueError` if `later` did not get what was kept."""
        if later.kept + later.dropped != self.kept:
            raise ValueError(f"filter report: {self.kept} kept, but the next filter saw {later.kept + later.dropped}")
        return FilterReport(later.kept, dict(Counter(self.dropped_by_reason) + Counter(later.dropped_by_reason)))


def _apply(items: Sequence[ItemT], reason_of: Callable[[ItemT], str | None]) -> tuple[list[ItemT], FilterReport]:
    """Keeps the items without a reason to drop them."""
    kept: list[ItemT] = []
    dropped: Counter[str] = Counter()
    for item in items:
        reason = reason_of(item)
        if reason is None:
            kept.append(item)
        else:
            dropped[reason] += 1
    return kept, FilterReport(len(kept), dict(dropped))


# ---------------------------------------------------------------------------------------------- queries

_SUBQUESTION_MARK = re.compile(
    r"(?:^|(?<=\s))(?:\((?:[a-h]|[ivx]{1,4}|\d)\)|(?:[a-h]|[ivx]{1,4}|\d)[.)]|part \w\s?[:.)])\s+", re.IGNORECASE
)
_ASKS = re.compile(
    r"\s*(?:find|compute|calculate|determine|evaluate|show|prove|explain|derive|solve|state|give|list|name|describe"
    r"|what|which|who|when|where|why|how|is|are|does|do|can)\b",
    re.IGNORECASE,
)
_OPEN_ENDED = re.compile(
    r"\b(?:write|compose|draft|create|generate|tell|make up|come up with|improvise)\b(?:\W+\w+){0,6}?\W+"
    r"(?:essay|story|stories|poem|haiku|sonnet|limerick|song|lyrics|letter|e-?mail|blog|article|speech|script|dialogue"
    r"|review|slogan|tweet|caption|biography|paragraphs?|joke)\b"
    r"|\b(?:brainstorm|in your opinion|your (?:thoughts|views?) on|what do you think)\b"
    r"|^\s*(?:please )?(?:discuss|reflect on|summari[sz]e|paraphrase|role-?play|imagine|describe)\b",
    re.IGNORECASE,
)
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)


def question_text(prompt: Prompt) -> str:
    """The text of all user messages; system messages are instructions and no part of the question."""
    return "\n".join(str(message.get("content") or "") for message in prompt.messages if message.get("role") == "user")


def verifiable(prompts: Sequence[Prompt]) -> tuple[list[Prompt], FilterReport]:
    """Keeps queries with a reference, a single question and a checkable answer (report 4.1, query filter 1).

    no reference: None, or empty text, list or mapping, or a mapping in which every value is empty.
    several questions: two sentences that end in a question mark, or two parts marked (a), b), 1., Part 2 that each ask
    something (they start with a question word or an imperative, or end in a question mark), outside code. Options
    of a multiple choice question ask nothing, so they do not count.
    open-ended text: asks to write a story, an essay and the like, or for an opinion, or starts with "Discuss",
    "Summarise". Asking for code ("write a function") is not open-ended: tests verify it.
    """
    return _apply(prompts, _unverifiable_reason)


def _unverifiable_reason(prompt: Prompt) -> str | None:
    text = _CODE.sub(" ", question_text(prompt))
    values = list(prompt.reference.values()) if isinstance(prompt.reference, Mapping) else [prompt.reference]
    if all(value is None or value in ("", [], {}, ()) for value in values):
        return "no reference"
    parts = _SUBQUESTION_MARK.split(text)[1:]
    asking = sum(1 for part in parts if _ASKS.match(part) or part.rstrip().endswith("?"))
    if asking >= 2 or len(re.findall(r"[?？](?=\s|$)", text)) >= 2:
        return "several questions"
    return "open-ended text" if _OPEN_ENDED.search(text) else None


def _lookup(values: Mapping[str, ItemT], prompt: Prompt, name: str) -> ItemT:
    if prompt.uid not in values:
        raise UserError(f"{name}: no entry for prompt {prompt.uid!r}; measure every prompt before filtering")
    return values[prompt.uid]


def needs_reasoning(
    prompts: Sequence[Prompt], solved_without_cot: Mapping[str, bool | None]
) -> tuple[list[Prompt], FilterReport]:
    """Drops queries that a model answers correctly without chain of thought (report 4.1, query filter 2).

    `solved_without_cot` maps the uid of every prompt to whether it was, or to None if the verifier failed: such a query
    is dropped as "no verdict without CoT", for an error is not a wrong answer. A missing uid raises `UserError`.
    """

    def reason(prompt: Prompt) -> str | None:
        solved = _lookup(solved_without_cot, prompt, "solved_without_cot")
        return "no verdict without CoT" if solved is None else "solved without CoT" if solved else None

    return _apply(prompts, reason)


def learnable(
    prompts: Sequence[Prompt],
    pass_rates: Mapping[str, float | None],
    low: float = 0.0,
    high: float = 1.0,
    *,
    hardest_first: bool = False,
) -> tuple[list[Prompt], FilterReport]:
    """Keeps queries with low < pass rate < high at the start of RL: a uniform group has no gradient (report 4.2).

    `pass_rates` maps every uid to a share in [0, 1], or to None if no completion could be verified. `hardest_first`
    sorts by rising pass rate ("as challenging as possible"), ties in their order. A missing or impossible rate raises
    `UserError`.
    """

    def reason(prompt: Prompt) -> str | None:
        rate = _lookup(pass_rates, prompt, "pass_rates")
        if rate is None:
            return "no verdict"
        if not 0 <= rate <= 1:  # also refuses NaN
            raise UserError(f"pass_rates: {prompt.uid!r} has {rate}; a pass rate lies in [0, 1]")
        return "pass rate too low" if rate <= low else "pass rate too high" if rate >= high else None

    kept, report = _apply(prompts, reason)
    if hardest_first:
        kept.sort(key=lambda prompt: pass_rates[prompt.uid] or 0.0)
    return kept, report


def _seeded_rank(seed: int, uid: str) -> str:
    return hashlib.sha256(f"{seed}/{uid}".encode()).hexdigest()


def balance_by_domain(
    prompts: Sequence[Prompt], *, per_domain: int | None = None, max_ratio: float | None = None, seed: int = 0
) -> tuple[list[Prompt], FilterReport]:
    """Caps each domain at `per_domain` queries, or at `max_ratio` times the smallest domain (report 4.1).

    Which queries stay depends on (seed, uid) alone and not on their order; the kept ones stay in order. Raises
    `UserError` unless exactly one cap is given and it keeps at least one query per domain.
    """
    sizes = Counter(prompt.domain for prompt in prompts)
    if (per_domain is None) == (max_ratio is None):
        raise UserError(f"balance: give either per_domain or max_ratio, got {per_domain=} and {max_ratio=}")
    if (per_domain is not None and per_domain < 1) or (max_ratio is not None and not 1 <= max_ratio < math.inf):
        raise UserError(f"balance: need per_domain >= 1 or a finite max_ratio >= 1, got {per_domain=}, {max_ratio=}")
    cap = per_domain if per_domain is not None else int((max_ratio or 1) * min(sizes.values(), default=0))
    order = sorted(range(len(prompts)), key=lambda index: (_seeded_rank(seed, prompts[index].uid), index))
    taken: Counter[str] = Counter()
    chosen: set[int] = set()
    for index in order:
        if taken[prompts[index].domain] < cap:
            taken[prompts[index].domain] += 1
            chosen.add(index)
    over = {f"over the cap of domain {name!r}": size - cap for name, size in sizes.items() if size > cap}
    return [prompts[index] for index in sorted(chosen)], FilterReport(len(chosen), over)


def deduplicate(prompts: Sequence[Prompt]) -> tuple[list[Prompt], FilterReport]:
    """Keeps the first of all queries that say the same up to letter case, spacing and Unicode form.

    All messages are compared, with their roles. A repeated query whose reference differs from the first one's is
    counted as such: one of the two references is wrong.
    """
    references: dict[tuple[tuple[str, str], ...], object] = {}

    def reason(prompt: Prompt) -> str | None:
        key = tuple((str(message.get("role")), _normalised(message.get("content"))) for message in prompt.messages)
        if key not in references:
            references[key] = prompt.reference
            return None
        return "duplicate" if references[key] == prompt.reference else "duplicate with another reference"

    return _apply(prompts, reason)


def _normalised(content: object) -> str:
    return " ".join(unicodedata.normalize("NFKC", str(content or "")).casefold().split())


def decontaminate(prompts: Sequence[Prompt], decontaminator: Decontaminator) -> tuple[list[Prompt], FilterReport]:
    """Drops queries that hold evaluation text; `assert_clean` is the gate that checks the result."""
    return _apply(
        prompts,
        lambda prompt: "holds evaluation text" if decontaminator.contaminated(question_text(prompt)) else None,
    )


# ---------------------------------------------------------------------------------------------- responses


@dataclass(frozen=True, slots=True)
class Candidate:
    """One response to a query, split into thinking and final answer, with the verifier's score of it."""

    prompt: Prompt
    reasoning: str
    answer: str
    score: Score


@dataclass(frozen=True, kw_only=True)
class ResponseFilterConfig:
    """Thresholds of the response filters; the report publishes none, so these are this project's."""

    min_reward: float = 1.0
    repetition_n: int = 8
    max_repetition_share: float = 0.3
    min_reasoning_tokens: int = 10
    min_script_share: float = 0.1
    max_foreign_share: float = 0.05
    allowed_scripts: tuple[str, ...] = ()
    similarity_n: int = 5
    max_jaccard: float = 0.6
    max_containment: float = 0.8

    def validate(self) -> None:
        """Raises `UserError` for a threshold outside its range."""
        shares = ("min_reward", "max_repetition_share", "min_script_share", "max_foreign_share")
        for name in (*shares, "max_jaccard", "max_containment"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name}: must lie in [0, 1], got {getattr(self, name)}")
        for name, least in (("repetition_n", 1), ("similarity_n", 1), ("min_reasoning_tokens", 0)):
            if getattr(self, name) < least:
                raise UserError(f"{name}: must be at least {least}, got {getattr(self, name)}")


Extractor = Callable[[str], str | None]


def filter_responses(
    candidates: Sequence[Candidate],
    config: ResponseFilterConfig,
    *,
    validation_texts: Iterable[str] = (),
    extract: Extractor | None = None,
) -> tuple[list[Candidate], FilterReport]:
    """Applies the six response filters of report 4.1 in its order; a dropped candidate counts for the first that hits.

    `extract` gets a text and returns its final value or None (default `final_value`); `validation_texts` are the held
    out items that a response must not resemble.
    """
    config.validate()
    validation = NgramIndex(validation_texts, config.similarity_n)
    final = extract or final_value
    filters: tuple[Callable[[Candidate], str | None], ...] = (
        lambda candidate: wrong_answer(candidate, config),
        lambda candidate: repetition(candidate, config),
        lambda candidate: guesswork(candidate, config, final),
        lambda candidate: inconsistency(candidate, final),
        lambda candidate: language_shift(candidate, config),
        lambda candidate: over_similarity(candidate, config, validation),
    )
    return _apply(candidates, lambda candidate: next(filter(None, (check(candidate) for check in filters)), None))


def wrong_answer(candidate: Candidate, config: ResponseFilterConfig) -> str | None:
    """Filter 1: a reward under `min_reward`. A verifier that failed is counted apart from wrong answers."""
    if candidate.score.reward is None:
        return "verifier error"
    return "wrong final answer" if candidate.score.reward < config.min_reward else None


def repetition(candidate: Candidate, config: ResponseFilterConfig) -> str | None:
    """Filter 2: more than `max_repetition_share` of the n-grams of the thinking or of the answer are repeats."""
    worst = max(repetition_share(text, config.repetition_n) for text in (candidate.reasoning, candidate.answer))
    return "repetition" if worst > config.max_repetition_share else None


def guesswork(candidate: Candidate, config: ResponseFilterConfig, extract: Extractor = final_value) -> str | None:
    """Filter 3: hardly any thinking, or a thinking that says it guesses and nowhere else holds the final value."""
    if len(tokens(candidate.reasoning)) < config.min_reasoning_tokens:
        return "guesswork"
    value = extract(candidate.answer) or candidate.answer
    guessed = has_guess_marker(candidate.reasoning) and not derived(value, candidate.reasoning)
    return "guesswork" if guessed else None


def inconsistency(candidate: Candidate, extract: Extractor = final_value) -> str | None:
    """Filter 4: thinking and answer end in different values; without a value on either side there is no conflict."""
    thought, stated = extract(candidate.reasoning), extract(candidate.answer)
    if thought is None or stated is None or same_value(thought, stated):
        return None
    return "thinking and answer differ"


def language_shift(candidate: Candidate, config: ResponseFilterConfig) -> str | None:
    """Filter 5: over `max_foreign_share` of the letters of the thinking or the answer are in another script.

    Expected are the scripts with at least `min_script_share` of the letters of the question, and `allowed_scripts`
    (a translation task's target). A question without words expects one script in each part. Two languages of one
    script are not told apart, which is a departure from the report's wording.
    """
    asked = script_shares(question_text(candidate.prompt))
    expected = {script for script, share in asked.items() if share >= config.min_script_share}
    allowed = expected | set(config.allowed_scripts) if expected else expected
    worst = max(foreign_share(text, allowed) for text in (candidate.reasoning, candidate.answer))
    return "language mixing" if worst > config.max_foreign_share else None


def over_similarity(candidate: Candidate, config: ResponseFilterConfig, validation: NgramIndex) -> str | None:
    """Filter 6: the question or the response is nearly a validation item (Jaccard), or quotes most of one."""
    for text in (question_text(candidate.prompt), candidate.reasoning, candidate.answer):
        jaccard, containment = validation.similarity(text)
        if jaccard >= config.max_jaccard or containment >= config.max_containment:
            return "similar to a validation item"
    return None
