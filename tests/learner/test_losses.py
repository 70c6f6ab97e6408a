"""The policy loss against numbers worked out by hand, against a loop over tokens, and under harmless changes.

The arithmetic stands in the comments. Ratios are chosen and turned into log-probabilities: log π = log μ + log r.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from data.records import UserError
from learner.losses import (
    LOSS_SETTINGS,
    LossConfig,
    aggregate_tokens,
    grpo_loss,
    policy_loss,
    reduce_metrics,
    sft_loss,
)

NAN, INF = math.nan, math.inf


def rows(*values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def example(ratios: Tensor, behavior: float = -1.0) -> tuple[Tensor, Tensor]:
    """Log-probabilities of policy and behavior policy with these ratios; the policy's takes a gradient."""
    behavior_BT = torch.full_like(ratios, behavior)
    return (behavior_BT + ratios.log()).requires_grad_(), behavior_BT


def gradient(loss: Tensor, logprobs: Tensor) -> Tensor:
    (grad,) = torch.autograd.grad(loss, logprobs)
    return grad


# Two rows of three tokens, the last of row 2 is padding. A is +1 in row 1 and −1 in row 2; clip interval [0.8, 1.28].
RATIOS = rows([1.0, 1.5, 0.5], [1.0, 0.5, 9.0])
ADVANTAGES = rows([1.0, 1.0, 1.0], [-1.0, -1.0, -1.0])
MASK = torch.tensor([[1, 1, 1], [1, 1, 0]])
# min(r A, clip(r) A):  row 1: 1, min(1.5, 1.28) = 1.28, min(0.5, 0.8) = 0.5           -> sum  2.78, length 3
#                       row 2: −1, min(−0.5, −0.8) = −0.8, padding                     -> sum −1.8,  length 2


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        ("token_mean", -(2.78 - 1.8) / 5),  # Σ / tokens: −0.98 / 5 = −0.196
        ("sequence_mean", -(2.78 / 3 - 1.8 / 2) / 2),  # mean of 0.92667 and −0.9: −0.013333
        ("constant", -(2.78 - 1.8) / (2 * 10)),  # Σ / (sequences · max_tokens): −0.049
    ],
)
def test_each_aggregation_gives_the_number_worked_out_by_hand(aggregation: str, expected: float) -> None:
    logprobs, behavior = example(RATIOS)
    loss, _ = grpo_loss(
        logprobs, behavior, ADVANTAGES, MASK, clip_low=0.2, clip_high=0.28, num_loss_tokens=5, num_sequences=2,
        aggregation=aggregation, max_tokens=10,
    )  # fmt: skip
    assert loss.item() == pytest.approx(expected, abs=1e-12)


def test_the_gradient_is_r_times_a_where_the_clip_does_not_bind_and_zero_where_it_does() -> None:
    logprobs, behavior = example(RATIOS)
    loss, _ = grpo_loss(logprobs, behavior, ADVANTAGES, MASK, clip_low=0.2, clip_high=0.28, num_loss_tokens=5)
    # d(r A)/d log π = r A, times −1/5. Clipped: r = 1.5 with A > 0, r = 0.5 with A < 0.
    assert torch.allclose(gradient(loss, logprobs), -rows([1.0, 0.0, 0.5], [-1.0, 0.0, 0.0]) / 5)


def test_metrics_count_the_tokens_where_the_clip_binds() -> None:
    logprobs, behavior = example(RATIOS)
    _, metrics = grpo_loss(logprobs, behavior, ADVANTAGES, MASK, clip_low=0.2, clip_high=0.28, num_loss_tokens=5)
    reduced = reduce_metrics([metrics])
    assert reduced["num_tokens"] == 5
    assert reduced["clip_fraction_low"] == pytest.approx(1 / 5)  # r = 0.5 with A = −1; not r = 0.5 with A = +1
    assert reduced["clip_fraction_high"] == pytest.approx(1 / 5)  # r = 1.5 with A = +1; the 9.0 is padding
    assert reduced["ratio_max"] == pytest.approx(1.5)
    assert reduced["ratio_deviation_max"] == pytest.approx(0.5)
    # Σ (r − 1 − log r) / 5 = (0 + 0.5 − log 1.5 + 2 (−0.5 + log 2)) / 5
    assert reduced["behavior_kl"] == pytest.approx((0.5 - math.log(1.5) + 2 * (math.log(2) - 0.5)) / 5)
    assert reduced["importance_weight"] == 1.0
    assert reduced["importance_capped"] == 0.0
    assert reduced["non_finite_count"] == 0


def test_truncated_importance_weights_multiply_each_term_and_are_capped_and_detached() -> None:
    # log μ = −1; proximal weights 0.5, 1.5, 4 (capped at 2); ratio to the proximal policy 1.1, 1.0, 0.9; A = 2.
    behavior = rows([-1.0, -1.0, -1.0])
    proximal = (behavior + rows([0.5, 1.5, 4.0]).log()).requires_grad_()
    logprobs = (proximal.detach() + rows([1.1, 1.0, 0.9]).log()).requires_grad_()
    advantages, mask = torch.full_like(behavior, 2.0), torch.ones(1, 3)
    loss, metrics = grpo_loss(
        logprobs, behavior, advantages, mask, clip_low=0.2, clip_high=0.28, num_loss_tokens=3,
        proximal_logprobs_BT=proximal, importance_cap=2.0,
    )  # fmt: skip
    assert torch.autograd.grad(loss, proximal, allow_unused=True, retain_graph=True) == (None,)
    # −(0.5 · 1.1 + 1.5 · 1.0 + 2 · 0.9) · 2 / 3 = −(0.55 + 1.5 + 1.8) · 2/3 = −2.5666…
    assert loss.item() == pytest.approx(-3.85 * 2 / 3)
    assert torch.allclose(gradient(loss, logprobs), -rows([0.55, 1.5, 1.8]) * 2 / 3)
    reduced = reduce_metrics([metrics])
    assert reduced["importance_weight"] == pytest.approx((0.5 + 1.5 + 2.0) / 3)
    assert reduced["importance_capped"] == pytest.approx(1 / 3)


def test_an_importance_cap_without_proximal_logprobs_is_refused() -> None:
    logprobs, behavior = example(RATIOS)
    with pytest.raises(ValueError, match="proximal_logprobs_BT"):
        grpo_loss(
            logprobs, behavior, ADVANTAGES, MASK, clip_low=0.2, clip_high=0.2, num_loss_tokens=5, importance_cap=2.0
        )


def test_on_policy_ratio_is_exactly_one_and_nothing_is_clipped() -> None:
    torch.manual_seed(0)
    logprobs = -torch.rand(4, 50) * 20
    advantages = torch.randn(4, 50)
    for proximal in (None, logprobs.detach()):
        behavior = logprobs if proximal is None else logprobs + 0.3 * torch.randn(4, 50)
        _, metrics = grpo_loss(
            logprobs.clone().requires_grad_(), behavior, advantages, torch.ones(4, 50), clip_low=0.0, clip_high=0.0,
            num_loss_tokens=200, proximal_logprobs_BT=proximal,
        )  # fmt: skip
        assert metrics["ratio_deviation_max"].item() == 0.0
        assert metrics["ratio_max"].item() == 1.0
        assert metrics["clip_fraction_low_sum"].item() == metrics["clip_fraction_high_sum"].item() == 0


def test_a_long_sequence_with_a_small_bias_per_token_is_not_dropped() -> None:
    # 8192 tokens at 1.5e-4 nats a token: as a sum the sequence weight is exp(1.2288) = 3.42, past a cap of 3; here
    # every token keeps the weight exp(1.5e-4) and GSPO's ratio is the same exp of the mean.
    num_tokens, bias = 8192, 1.5e-4
    proximal = torch.full((1, num_tokens), -1.0, dtype=torch.float64)
    behavior, mask, advantages = proximal - bias, torch.ones(1, num_tokens), torch.ones(1, num_tokens)
    logprobs = proximal.clone().requires_grad_()
    common = {"clip_low": 0.2, "clip_high": 0.28, "num_loss_tokens": num_tokens}
    loss, metrics = grpo_loss(
        logprobs, behavior, advantages, mask, proximal_logprobs_BT=proximal, importance_cap=3.0, **common
    )  # fmt: skip
    assert metrics["importance_capped_sum"].item() == 0
    assert loss.item() == pytest.approx(-math.exp(bias))
    _, metrics = grpo_loss(
        logprobs, behavior, advantages, mask, ratio="sequence", aggregation="sequence_mean", num_sequences=1, **common
    )
    assert metrics["ratio_max"].item() == pytest.approx(math.exp(bias))
    assert metrics["clip_fraction_high_sum"].item() == 0


@pytest.mark.parametrize("name", sorted(LOSS_SETTINGS))
@pytest.mark.parametrize("poison", [NAN, INF, -INF])
def test_masked_positions_contribute_nothing_even_when_not_finite(name: str, poison: float) -> None:
    torch.manual_seed(1)
    mask = torch.tensor([[0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
    tensors = {key: torch.randn(3, 4, dtype=torch.float64) for key in ("a", "new", "old", "prox", "ref", "ent")}
    config = replace(LOSS_SETTINGS[name], entropy_coef=0.01)

    def run(values: dict[str, Tensor]) -> tuple[float, Tensor, dict[str, float]]:
        logprobs, entropy = values["new"].clone().requires_grad_(), values["ent"].clone().requires_grad_()
        loss, metrics = policy_loss(
            logprobs, values["old"], values["a"], mask, config=config, num_loss_tokens=3, num_sequences=2,
            proximal_logprobs_BT=values["prox"] if config.takes_proximal else None,
            reference_logprobs_BT=values["ref"], entropy_BT=entropy,
        )  # fmt: skip
        return loss.item(), torch.cat(torch.autograd.grad(loss, (logprobs, entropy))), reduce_metrics([metrics])

    poisoned = {key: torch.where(mask.bool(), value, poison) for key, value in tensors.items()}
    clean, dirty = run(tensors), run(poisoned)
    assert clean[0] == dirty[0]
    assert torch.equal(clean[1], dirty[1])
    assert torch.isfinite(dirty[1]).all()
    assert clean[2] == dirty[2]


@pytest.mark.parametrize("where", ["logprobs", "behavior", "advantages"])
def test_a_nan_at_a_kept_position_shows_in_loss_and_count(where: str) -> None:
    logprobs, behavior = example(RATIOS)
    values = {"logprobs": logprobs.detach().clone(), "behavior": behavior.clone(), "advantages": ADVANTAGES.clone()}
    values[where][0, 1] = NAN
    loss, metrics = grpo_loss(
        values["logprobs"].requires_grad_(), values["behavior"], values["advantages"], MASK, clip_low=0.2,
        clip_high=0.28, num_loss_tokens=5,
    )  # fmt: skip
    assert math.isnan(loss.item())
    assert metrics["non_finite_count"].item() == 1


def test_an_infinite_ratio_is_counted_even_where_the_clip_hides_it_from_the_loss() -> None:
    behavior = rows([-1000.0, -1.0])
    logprobs = rows([-0.1, -1.0]).requires_grad_()
    loss, metrics = grpo_loss(
        logprobs, behavior, torch.ones_like(behavior), torch.ones(1, 2), clip_low=0.2, clip_high=0.28, num_loss_tokens=2
    )
    assert loss.item() == pytest.approx(-(1.28 + 1.0) / 2)
    assert metrics["non_finite_count"].item() == 1
    assert math.isnan(gradient(loss, logprobs)[0, 0].item())  # what the count warns of


def test_a_nan_reference_or_entropy_is_counted() -> None:
    logprobs, behavior = example(RATIOS)
    bad = behavior.clone()
    bad[0, 0] = NAN
    config = LossConfig(importance_cap=None, kl_coef=0.1)
    _, metrics = policy_loss(
        logprobs, behavior, ADVANTAGES, MASK, config=config, num_loss_tokens=5, reference_logprobs_BT=bad,
        entropy_BT=bad,
    )  # fmt: skip
    assert metrics["non_finite_count"].item() == 2
    assert math.isnan(reduce_metrics([metrics])["reference_kl"])


@pytest.mark.parametrize("count", [0, -1])
def test_a_denominator_that_is_not_positive_is_refused(count: int) -> None:
    logprobs, behavior = example(RATIOS)
    with pytest.raises(ValueError, match="num_loss_tokens"):
        grpo_loss(logprobs, behavior, ADVANTAGES, MASK, clip_low=0.2, clip_high=0.2, num_loss_tokens=count)
    with pytest.raises(ValueError, match="num_loss_tokens"):
        sft_loss(logprobs, MASK, num_loss_tokens=count)
    with pytest.raises(ValueError, match="num_sequences"):
        aggregate_tokens(logprobs, MASK, aggregation="sequence_mean", num_loss_tokens=5, num_sequences=count)
    with pytest.raises(ValueError, match="max_tokens"):
        aggregate_tokens(
            logprobs, MASK, aggregation="constant", num_loss_tokens=5, num_sequences=2, max_tokens=count
        )  # fmt: skip


def test_an_all_masked_micro_batch_has_loss_zero_and_still_runs_backward() -> None:
    for shape in ((2, 3), (1, 0)):
        logprobs = torch.randn(shape, requires_grad=True)
        for aggregation in ("token_mean", "sequence_mean", "constant"):
            loss, metrics = grpo_loss(
                logprobs, torch.zeros(shape), torch.ones(shape), torch.zeros(shape), clip_low=0.2, clip_high=0.2,
                num_loss_tokens=7, num_sequences=1, max_tokens=7, aggregation=aggregation,
                sequence_ids_BT=torch.full(shape, -1),
            )  # fmt: skip
            assert loss.item() == 0.0
            assert torch.equal(gradient(loss, logprobs), torch.zeros(shape))
            assert metrics["num_tokens"].item() == 0


# --- the named settings --------------------------------------------------------------------------------------------


def test_gspo_clips_the_exponential_of_the_mean_log_ratio_of_each_sequence() -> None:
    # Row 1, A = 2: ratios 2 and 1/2 have mean log-ratio 0, so s = 1 though both tokens are far out: term 2.
    # Row 2, A = 1: log-ratios 0.3 and 0.1 (third token padding): s = e^0.2 = 1.2214, clipped at 1.1: term 1.1.
    logprobs = rows([math.log(2.0), -math.log(2.0), 0.0], [0.3, 0.1, 7.0]).requires_grad_()
    mask = torch.tensor([[1, 1, 0], [1, 1, 0]])
    advantages = rows([2.0] * 3, [1.0] * 3)
    loss, metrics = grpo_loss(
        logprobs, torch.zeros_like(logprobs), advantages, mask, clip_low=0.1, clip_high=0.1, num_loss_tokens=4,
        num_sequences=2, ratio="sequence", aggregation="sequence_mean",
    )  # fmt: skip
    assert loss.item() == pytest.approx(-(2.0 + 1.1) / 2)
    # ∇ = s A (1/|o|) for each token of row 1: 1 · 2 / 2, averaged over two sequences: 0.5; row 2 is clipped.
    assert torch.allclose(gradient(loss, logprobs), -rows([0.5, 0.5, 0.0], [0.0, 0.0, 0.0]))
    assert reduce_metrics([metrics])["clip_fraction_high"] == pytest.approx(2 / 4)


def test_cispo_gradient_is_the_clipped_weight_times_the_gradient_of_logprob() -> None:
    # Bounds [0, 1 + 4]: weights 0.5, 1, 8 -> 5. The gradient of w A log π is w A, beyond the bound too (w is detached).
    config = LOSS_SETTINGS["cispo"]
    logprobs, behavior = example(rows([0.5, 1.0, 8.0]), behavior=-3.0)
    advantages = rows([1.0, -2.0, 1.0])
    loss, metrics = policy_loss(logprobs, behavior, advantages, torch.ones(1, 3), config=config, num_loss_tokens=3)
    assert torch.allclose(gradient(loss, logprobs), -rows([0.5, -2.0, 5.0]) / 3)
    expected = -(0.5 * (math.log(0.5) - 3) + 1.0 * -2.0 * -3 + 5.0 * (math.log(8.0) - 3)) / 3
    assert loss.item() == pytest.approx(expected)
    assert reduce_metrics([metrics])["clip_fraction_high"] == pytest.approx(1 / 3)


def test_the_grpo_setting_is_the_papers_equation_with_its_kl_term() -> None:
    # Sequence mean, ε = 0.2, β = 0.04, k3 with d = log π − log π_ref = log 2 everywhere: e^−d − 1 + d = log 2 − 1/2.
    logprobs, behavior = example(RATIOS)
    reference = logprobs.detach() - math.log(2.0)
    loss, metrics = policy_loss(
        logprobs, behavior, ADVANTAGES, MASK, config=LOSS_SETTINGS["grpo"], num_loss_tokens=5, num_sequences=2,
        reference_logprobs_BT=reference,
    )  # fmt: skip
    # Row 1: 1, 1.2, 0.5 -> 0.9; row 2: −1, −0.8 -> −0.9; mean 0.
    assert loss.item() == pytest.approx(0.0 + 0.04 * (math.log(2.0) - 0.5))
    assert reduce_metrics([metrics])["reference_kl"] == pytest.approx(math.log(2.0) - 0.5)
    assert reduce_metrics([metrics])["loss"] == pytest.approx(loss.item())


def test_dr_grpo_weighs_tokens_alike_in_long_and_short_sequences() -> None:
    config = replace(LOSS_SETTINGS["dr_grpo"], max_tokens=10)
    logprobs, behavior = example(torch.ones(2, 4, dtype=torch.float64))
    mask = torch.tensor([[1, 0, 0, 0], [1, 1, 1, 1]])
    loss, _ = policy_loss(logprobs, behavior, torch.ones(2, 4), mask, config=config, num_loss_tokens=5, num_sequences=2)
    assert loss.item() == pytest.approx(-5 / (2 * 10))
    assert torch.allclose(gradient(loss, logprobs), -mask.double() / 20)


def test_dapo_and_default_differ_in_importance_weights_and_std_only() -> None:
    default = LOSS_SETTINGS["default"]
    assert LOSS_SETTINGS["dapo"] == replace(default, importance_cap=None, std_normalise=True)
    assert (default.clip_low, default.clip_high, default.aggregation, default.kl_coef) == (0.2, 0.28, "token_mean", 0.0)


def test_policy_loss_refuses_to_run_without_a_tensor_that_the_config_calls_for() -> None:
    logprobs, behavior = example(RATIOS)
    for config, name in (
        (LossConfig(), "proximal_logprobs_BT"),
        (LossConfig(importance_cap=None, kl_coef=0.1), "reference_logprobs_BT"),
        (LossConfig(importance_cap=None, entropy_coef=0.1), "entropy_BT"),
    ):
        with pytest.raises(ValueError, match=name):
            policy_loss(logprobs, behavior, ADVANTAGES, MASK, config=config, num_loss_tokens=5)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"ratio": "sequence", "importance_cap": None}, "loss.aggregation='token_mean'"),
        ({"ratio": "sequence", "aggregation": "constant", "max_tokens": 9, "importance_cap": None}, "loss.aggregation"),
        (
            {"ratio": "sequence", "aggregation": "sequence_mean", "surrogate": "cispo", "importance_cap": None},
            "loss.surrogate='cispo'",
        ),
        ({"ratio": "sequence", "aggregation": "sequence_mean"}, "loss.importance_cap=2.0"),
        ({"aggregation": "constant"}, "loss.max_tokens=None"),
        ({"max_tokens": 5}, "loss.max_tokens=5"),
        ({"kl_coef": 0.1, "kl_estimator": "k1"}, "loss.kl_estimator='k1'"),
        ({"aggregation": "sum"}, "loss.aggregation='sum'"),
        ({"clip_low": 1.5}, "loss.clip_low=1.5"),
        ({"clip_high": -0.1}, "loss.clip_high=-0.1"),
        ({"clip_high": NAN}, "loss.clip_high=nan"),
        ({"importance_cap": 0.0}, "loss.importance_cap=0.0"),
        ({"kl_coef": -1.0}, "loss.kl_coef=-1.0"),
        ({"entropy_coef": INF}, "loss.entropy_coef=inf"),
    ],
)
def test_an_illegal_setting_is_refused_in_one_line_that_names_field_and_value(change: dict, field: str) -> None:
    with pytest.raises(UserError) as error:
        LossConfig(**change)
    assert str(error.value).startswith(field)
    assert "\n" not in str(error.value)


# --- against a loop, and under changes that must not matter -----------------------------------------------------------


def loop_loss(batch: dict[str, Tensor], config: LossConfig, num_loss_tokens: int, num_sequences: int) -> float:
    """The same objective one token after the other, one sequence a row."""
    total = 0.0
    for row in range(batch["mask"].shape[0]):
        kept = [t for t in range(batch["mask"].shape[1]) if batch["mask"][row, t]]
        value = {key: [batch[key][row, t].item() for t in kept] for key in ("new", "old", "prox", "a")}
        if not kept:
            continue
        old = value["prox"] if config.takes_proximal else value["old"]
        log_ratios = [new - before for new, before in zip(value["new"], old, strict=True)]
        if config.ratio == "sequence":
            log_ratios = [sum(log_ratios) / len(kept)] * len(kept)
        row_sum = 0.0
        for index, log_ratio in enumerate(log_ratios):
            ratio, a = math.exp(log_ratio), value["a"][index]
            clipped = min(max(ratio, 1 - config.clip_low), 1 + config.clip_high)
            term = clipped * a * value["new"][index] if config.surrogate == "cispo" else min(ratio * a, clipped * a)
            weight = math.exp(old[index] - value["old"][index])
            row_sum += (min(weight, config.importance_cap) if config.importance_cap else 1.0) * term
        if config.aggregation == "sequence_mean":
            total += row_sum / len(kept) / num_sequences
        elif config.aggregation == "constant":
            total += row_sum / num_sequences / (config.max_tokens or 1)
        else:
            total += row_sum / num_loss_tokens
    return -total


def random_batch(seed: int, lengths: list[int]) -> dict[str, Tensor]:
    """Ragged rows of float64 values, advantages constant in a row, about one kept token in eight masked."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(lengths), max(lengths))
    new = -torch.rand(shape, generator=generator, dtype=torch.float64) * 3
    noise = torch.randn((2, *shape), generator=generator, dtype=torch.float64) * 0.3
    inside = torch.arange(shape[1]) < torch.tensor(lengths).unsqueeze(1)
    return {
        "new": new, "old": new + noise[0], "prox": new + noise[1],
        "a": torch.randn((shape[0], 1), generator=generator, dtype=torch.float64).expand(shape),
        "mask": (inside & (torch.rand(shape, generator=generator) > 0.125)).long(),
        "ids": torch.where(inside, 0, -1),
    }  # fmt: skip


def run(batch: dict[str, Tensor], config: LossConfig, totals: tuple[int, int], **more: Tensor) -> tuple[Tensor, Tensor]:
    """Loss and gradient with respect to the log-probabilities."""
    logprobs = batch["new"].clone().requires_grad_()
    loss, _ = policy_loss(
        logprobs, batch["old"], batch["a"], batch["mask"], config=config, num_loss_tokens=totals[0],
        num_sequences=totals[1], proximal_logprobs_BT=batch["prox"] if config.takes_proximal else None, **more,
    )  # fmt: skip
    return loss.detach(), gradient(loss, logprobs)


def totals_of(batch: dict[str, Tensor]) -> tuple[int, int]:
    return int(batch["mask"].sum()), int((batch["mask"].sum(dim=1) > 0).sum())


ALL_CONFIGS = [replace(config, kl_coef=0.0) for _, config in sorted(LOSS_SETTINGS.items())]
LENGTHS = st.lists(st.integers(1, 7), min_size=2, max_size=5)
SEEDS = st.integers(0, 10_000)


def keep_one(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    batch["mask"][0, 0] = 1  # a step without any loss token has no loss
    return batch


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, lengths=LENGTHS, config=st.sampled_from(ALL_CONFIGS))
def test_loss_equals_a_loop_over_tokens(seed: int, lengths: list[int], config: LossConfig) -> None:
    batch = keep_one(random_batch(seed, lengths))
    totals = totals_of(batch)
    assert run(batch, config, totals)[0].item() == pytest.approx(loop_loss(batch, config, *totals), abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, lengths=LENGTHS, config=st.sampled_from(ALL_CONFIGS), width=st.integers(1, 5))
def test_padding_does_not_change_loss_or_gradient(
    seed: int, lengths: list[int], config: LossConfig, width: int
) -> None:
    batch = keep_one(random_batch(seed, lengths))
    totals = totals_of(batch)
    padded = {key: torch.nn.functional.pad(value, (0, width), value=0) for key, value in batch.items()}
    loss, grad = run(batch, config, totals)
    padded_loss, padded_grad = run(padded, config, totals)
    assert torch.allclose(loss, padded_loss, atol=1e-14)
    assert torch.allclose(torch.nn.functional.pad(grad, (0, width)), padded_grad, atol=1e-14)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, lengths=LENGTHS, config=st.sampled_from(ALL_CONFIGS), data=st.data())
def test_row_order_does_not_change_loss(seed: int, lengths: list[int], config: LossConfig, data: st.DataObject) -> None:
    batch = keep_one(random_batch(seed, lengths))
    order = torch.tensor(data.draw(st.permutations(range(len(lengths)))))
    totals = totals_of(batch)
    loss, grad = run(batch, config, totals)
    shuffled_loss, shuffled_grad = run({key: value[order] for key, value in batch.items()}, config, totals)
    assert torch.allclose(loss, shuffled_loss, atol=1e-14)
    assert torch.allclose(grad[order], shuffled_grad, atol=1e-14)


@pytest.mark.parametrize("config", ALL_CONFIGS, ids=sorted(LOSS_SETTINGS))
def test_one_two_and_four_micro_batches_give_the_same_loss_and_gradient(config: LossConfig) -> None:
    # Ragged on purpose: with a denominator for each micro-batch, or one division too many, these three would differ.
    batch = random_batch(3, [9, 1, 2, 7, 3, 3, 8, 1])
    totals = totals_of(batch)
    whole_loss, whole_grad = run(batch, config, totals)
    assert whole_loss.item() == pytest.approx(loop_loss(batch, config, *totals), abs=1e-12)
    for num_micro_batches in (2, 4):
        size = 8 // num_micro_batches
        parts = [
            run({key: value[start : start + size] for key, value in batch.items()}, config, totals)
            for start in range(0, 8, size)
        ]
        assert torch.allclose(torch.stack([loss for loss, _ in parts]).sum(), whole_loss, atol=1e-12)
        assert torch.allclose(torch.cat([grad for _, grad in parts]), whole_grad, atol=1e-12)


def test_micro_batch_metrics_reduce_to_those_of_the_whole_batch() -> None:
    batch = random_batch(5, [6, 2, 4, 1])
    num_tokens = totals_of(batch)[0]

    def metrics_of(rows_: slice) -> dict[str, Tensor]:
        return grpo_loss(
            *(batch[key][rows_] for key in ("new", "old", "a", "mask")), clip_low=0.1, clip_high=0.1,
            num_loss_tokens=num_tokens, proximal_logprobs_BT=batch["prox"][rows_], importance_cap=1.1,
        )[1]  # fmt: skip

    whole = reduce_metrics([metrics_of(slice(0, 4))])
    assert whole["importance_capped"] > 0
    assert whole == pytest.approx(reduce_metrics([metrics_of(slice(i, i + 1)) for i in range(4)]))


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, lengths=LENGTHS, config=st.sampled_from(ALL_CONFIGS), pad=st.integers(0, 3))
def test_packed_rows_equal_one_sequence_a_row(seed: int, lengths: list[int], config: LossConfig, pad: int) -> None:
    batch = keep_one(random_batch(seed, lengths))
    totals = totals_of(batch)
    loss, grad = run(batch, config, totals)

    def lay_out(value: Tensor, fill: float) -> Tensor:
        """Two rows: all sequences but the last end to end, and the last alone, both padded."""
        pieces = [value[row, :length] for row, length in enumerate(lengths)]
        packed = [torch.cat(pieces[:-1]), pieces[-1]]
        width = max(map(len, packed)) + pad
        return torch.stack([torch.nn.functional.pad(row, (0, width - len(row)), value=fill) for row in packed])

    packed = {key: lay_out(value, 0.0) for key, value in batch.items()}
    # Ids restart in the second row: they need to be distinct within a row only.
    own_ids = torch.arange(len(lengths)).unsqueeze(1).expand_as(batch["ids"]).clone()
    own_ids[-1] = 0
    packed_loss, packed_grad = run(packed, config, totals, sequence_ids_BT=lay_out(own_ids, -1))
    assert torch.allclose(loss, packed_loss, atol=1e-12)
    assert torch.allclose(lay_out(grad, 0.0), packed_grad, atol=1e-12)


def test_sequence_ids_that_call_a_kept_token_padding_are_refused() -> None:
    with pytest.raises(ValueError, match="padding"):
        aggregate_tokens(
            torch.ones(1, 2), torch.ones(1, 2), aggregation="sequence_mean", num_loss_tokens=2, num_sequences=1,
            sequence_ids_BT=torch.tensor([[0, -1]]),
        )  # fmt: skip


def test_bfloat16_logprobs_are_compared_in_float32() -> None:
    behavior = torch.tensor([[-8.0, -8.0]])
    logprobs = torch.tensor([[-8.0, -7.96875]], dtype=torch.bfloat16).requires_grad_()  # both exact in bfloat16
    loss, _ = grpo_loss(
        logprobs, behavior, torch.ones(1, 2), torch.ones(1, 2), clip_low=0.2, clip_high=0.2, num_loss_tokens=2
    )
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(-(1.0 + math.exp(0.03125)) / 2, rel=1e-6)


# --- SFT and metrics --------------------------------------------------------------------------------------------


def test_sft_loss_is_the_negative_log_likelihood_over_the_tokens_of_the_step() -> None:
    # Kept: −1, −2, −3; the step has 6 loss tokens, of which this micro-batch holds 3: (1 + 2 + 3) / 6 = 1.
    logprobs = rows([NAN, -1.0, -2.0], [-3.0, INF, NAN]).requires_grad_()
    mask = torch.tensor([[0, 1, 1], [1, 0, 0]])
    loss, metrics = sft_loss(logprobs, mask, num_loss_tokens=6)
    assert loss.item() == 1.0
    assert torch.equal(gradient(loss, logprobs), -mask.double() / 6)
    reduced = reduce_metrics([metrics])
    assert reduced == {"loss": 1.0, "num_tokens": 3.0, "non_finite_count": 0.0, "negative_log_likelihood": 2.0}


def test_sft_loss_counts_non_finite_logprobs() -> None:
    loss, metrics = sft_loss(rows([-1.0, NAN, -INF]), torch.ones(1, 3), num_loss_tokens=3)
    assert math.isnan(loss.item())
    assert metrics["non_finite_count"].item() == 2


def test_reduce_metrics_adds_means_and_maximises_by_name() -> None:
    first = {"loss": 0.5, "num_tokens": 1, "x_sum": 4.0, "r_max": 1.0, "non_finite_count": 1}
    second = {"loss": 0.25, "num_tokens": 3, "x_sum": 2.0, "r_max": 7.0, "non_finite_count": 0}
    reduced = reduce_metrics([first, second])
    assert reduced == {"loss": 0.75, "num_tokens": 4, "x": 1.5, "r_max": 7.0, "non_finite_count": 1}
    for order in ([first, second | {"r_max": NAN}], [first | {"r_max": NAN}, second]):
        assert math.isnan(reduce_metrics(order)["r_max"])


@pytest.mark.parametrize(
    "metrics", [[], [{"num_tokens": 1.0}, {"num_tokens": 1.0, "x_sum": 1.0}], [{"num_tokens": 0.0, "x_sum": 0.0}]]
)
def test_reduce_metrics_refuses_what_has_no_mean(metrics: list[dict[str, float]]) -> None:
    with pytest.raises(ValueError, match="reduce_metrics"):
        reduce_metrics(metrics)
