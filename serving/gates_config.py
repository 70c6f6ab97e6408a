"""The gates of a promotion as a YAML file says them: what is measured, and what has to come out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from configs.load import GATES, find_recipe, load_config
from data.records import UserError

DEFAULT_REGISTRY = "models"
"""Where the registry lies unless it is said: a folder beside the runs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LicenceGate:
    """The licence of a version: `spdx` as its owners declare it, null where the checkpoint's own card does.

    `allowed` are the identifiers that may be served; none means any. `require_clean_commit` refuses a checkpoint of
    code with uncommitted changes.
    """

    spdx: str | None = None
    allowed: tuple[str, ...] = ()
    require_clean_commit: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ParityGate:
    """Log-probabilities of the engine against those of transformers, in nats, on `num_rows` sampled answers.

    Each answer has at most `max_tokens` tokens. In float32 the two differ by rounding alone (1e-4); in bfloat16 by up
    to some tenths on single tokens, and by some hundredths on average.
    """

    num_rows: int = 8
    max_tokens: int = 64
    max_gap: float = 1e-3
    mean_gap: float = 1e-4

    def validate(self) -> None:
        for name in ("num_rows", "max_tokens"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: {getattr(self, name)} must be 1 or more")
        for name in ("max_gap", "mean_gap"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name}: {getattr(self, name)} must be above 0 nats")


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkGate:
    """Benchmarks of the suite: thresholds by benchmark and mode, and how much worse than the current version is borne.

    Scores and margins lie in [0, 1]. `margins` takes the place of `margin` for single benchmarks.
    """

    at_least: dict[str, dict[str, float]] = field(default_factory=dict)
    margin: float = 0.05
    margins: dict[str, float] = field(default_factory=dict)
    confidence: float = 0.95

    def validate(self) -> None:
        if not 0.5 < self.confidence < 1:
            raise UserError(f"confidence: {self.confidence} must lie between 0.5 and 1")
        for name, margin in {"margin": self.margin, **{f"margins.{n}": m for n, m in self.margins.items()}}.items():
            if not 0 < margin <= 1:
                raise UserError(f"{name}: {margin} must lie in (0, 1]; equality to any precision cannot be shown")
        for benchmark, modes in self.at_least.items():
            for mode, threshold in modes.items():
                if mode not in ("thinking", "non_thinking", "mixed"):
                    raise UserError(f"at_least.{benchmark}: {mode!r} is no mode; use thinking, non_thinking or mixed")
                if not 0 <= threshold <= 1:
                    raise UserError(f"at_least.{benchmark}.{mode}: {threshold} must lie in [0, 1]")

    def margin_of(self, benchmark: str) -> float:
        return self.margins.get(benchmark, self.margin)


@dataclass(frozen=True, kw_only=True, slots=True)
class ThinkFollowGate:
    """The share of dialogues whose last thinking flag has to be obeyed, on a benchmark asked in mode `mixed`."""

    benchmark: str = "think_follow"
    at_least: float = 0.95

    def validate(self) -> None:
        if not 0 <= self.at_least <= 1:
            raise UserError(f"at_least: {self.at_least} must lie in [0, 1]")


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadGate:
    """A steady load: `num_requests` answers of exactly `num_tokens` tokens, `concurrency` of them in flight at once.

    Seconds are from a request's submission to its last token, those of `max_first_token_*` to its first, of the engine
    without HTTP. First tokens are measured with the requests that come after the first `concurrency`.
    """

    concurrency: int = 8
    num_requests: int = 64
    num_tokens: int = 64
    max_median_s: float
    max_p95_s: float
    max_first_token_median_s: float
    max_first_token_p99_s: float
    min_tokens_per_s: float

    def validate(self) -> None:
        for name in ("concurrency", "num_requests", "num_tokens"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: {getattr(self, name)} must be 1 or more")
        if self.num_requests <= self.concurrency:
            raise UserError(
                f"num_requests: {self.num_requests} never reach a concurrency of {self.concurrency} with one to follow"
            )
        for name in (
            "max_median_s", "max_p95_s", "max_first_token_median_s", "max_first_token_p99_s", "min_tokens_per_s",
        ):  # fmt: skip
            if not getattr(self, name) > 0:
                raise UserError(f"{name}: {getattr(self, name)} must be above 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class GatesConfig:
    """All gates of a promotion. Hashes, template and lineage are always judged; the others can be null, which is shown.

    `suite` is what `fourstage eval` would measure, with `suite_settings` as key=value, cut down to the benchmarks
    `only`; its engine settings are those that the other gates use too. `swap_timeout_s` is how long servers of the
    alias may take to change their weights before the alias goes back.
    """

    name: str
    suite: str = "generated"
    suite_settings: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    licence: LicenceGate = field(default_factory=LicenceGate)
    parity: ParityGate | None = field(default_factory=ParityGate)
    benchmarks: BenchmarkGate | None = field(default_factory=BenchmarkGate)
    think_follow: ThinkFollowGate | None = field(default_factory=ThinkFollowGate)
    load: LoadGate | None = None
    swap_timeout_s: float = 600.0  # beyond what a server has to end requests, and to hash and load the weights

    def validate(self) -> None:
        if not self.swap_timeout_s > 0:
            raise UserError(f"swap_timeout_s: {self.swap_timeout_s} must be above 0")

    @property
    def needs_suite(self) -> bool:
        return self.benchmarks is not None or self.think_follow is not None

    @property
    def needs_engine(self) -> bool:
        return self.needs_suite or self.parity is not None or self.load is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class PromotionConfig:
    """How a run ends in a promotion: its last checkpoint goes to `staging`, and to `production` when its gates pass.

    `registry` is a folder or a URL, `gates` a shipped gates file or a path, with `gate_settings` as key=value. With an
    alias null that step is left out.
    """

    gates: str
    gate_settings: tuple[str, ...] = ()
    registry: str = DEFAULT_REGISTRY
    staging: str | None = "staging"
    production: str | None = "production"

    def validate(self) -> None:
        if self.staging is None and self.production is None:
            raise UserError("staging, production: both are null, so nothing would be promoted; name at least one alias")
        if self.staging == self.production:
            raise UserError(f"staging, production: both are {self.staging!r}; name two aliases")


def load_gates(name_or_path: str, overrides: Sequence[str] = ()) -> GatesConfig:
    """Shipped gates by name, or a YAML file, with `key=value` overrides."""
    return load_config(GatesConfig, [find_recipe(name_or_path, folder=GATES, kind="gates file")], overrides)
