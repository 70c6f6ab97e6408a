"""The context of a model: how long its rotary positions reach, and YaRN, which stretches them.

Rotary embedding turns each pair of dimensions by position x theta^(-2i/d). YaRN (Peng et al. 2023, arXiv 2309.00071,
section 3.4: "NTK-by-parts" and a temperature) leaves dimensions that turn often within the original length as they are,
divides the frequency of those that turn less than once by the factor, blends between, and scales queries and keys by
0.1 ln(factor) + 1. The Qwen3 report (section 3.2) serves 131,072 positions of models trained at 32,768 with factor 4.

Written into the model's config, the one place from which transformers, the learner and the engine take positions, and
from which every later checkpoint inherits them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from data.records import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class YarnConfig:
    """Stretch positions by `factor`; `original_positions` is what the model was trained for (null: its config's).

    Qwen3's configs name 40,960 positions, 32,768 of training and room for an answer: give 32768 there.
    """

    factor: float = 4.0
    original_positions: int | None = None

    def validate(self) -> None:
        if not self.factor > 1:
            raise UserError(f"yarn.factor: {self.factor:g} stretches nothing; use a number above 1, or yarn: null")
        if self.original_positions is not None and self.original_positions < 1:
            raise UserError(f"yarn.original_positions: {self.original_positions} must be 1 or more, or null")


def stretch_positions(config: Any, yarn: YarnConfig) -> None:
    """Write YaRN into a transformers config, in place: `rope_parameters` and `max_position_embeddings`.

    Raises UserError for a model whose positions are scaled already, whatever the kind.
    """
    yarn.validate()
    rope = dict(config.rope_parameters or {})
    if rope.get("rope_type", "default") != "default":
        raise UserError(
            f"yarn: the model's positions are scaled already (rope_type {rope['rope_type']!r}); leave yarn out, or "
            "start from the model before it was stretched"
        )
    original = yarn.original_positions or config.max_position_embeddings
    config.rope_parameters = {
        **rope,
        "rope_type": "yarn",
        "factor": float(yarn.factor),
        "original_max_position_embeddings": original,
    }
    config.max_position_embeddings = int(yarn.factor * original)


def require_positions(config: Any, lengths: Iterable[int]) -> None:
    """Raise UserError when a row is longer than the model has positions: it would go on with angles never trained."""
    longest, positions = max(lengths, default=0), config.max_position_embeddings
    if longest > positions:
        raise UserError(
            f"samples: one has {longest:,} tokens and the model {positions:,} positions (max_position_embeddings); "
            "shorten the samples, or stretch the positions with base.yarn.factor"
        )
