"""The learner: one optimizer step over given samples, on one process.

    TrainingSample* -> micro-batches (packing) -> backbone on a packed row (attention) -> log-probabilities of the
    tokens that carry loss (logprobs) -> loss (losses) -> gradients -> norm, skip or clip -> AdamW -> StepResult

It knows neither rewards nor the engine: samples come in, weights and metrics go out. Denominators count the whole
optimizer step, so micro-batching changes memory and time and never the gradient. The same inputs give the same bits.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from data.adapter import AdapterWeights
from data.records import StepResult, TrainingSample, UserError
from learner.attention import PackedLayout, attention_kwargs
from learner.experts import RouterWatch
from learner.learner_config import LearnerConfig, learning_rate
from learner.logprobs import chunked_logprobs
from learner.lora import adapter_weights, trained_parameters
from learner.losses import policy_loss, reduce_metrics, sft_loss
from learner.model_folder import engine_state_dict, export_model, load_for_training, split_model
from learner.packing import PackedBatch, pack
from learner.trainer_state import read_trainer_state, write_trainer_state

__all__ = ["Learner", "LearnerConfig", "NonFiniteGradientError", "StepTotals", "learning_rate"]

COUNTERS = ("step", "skipped_steps", "skipped_in_a_row")
"""What of a learner's progress is saved as integers; the schedule is a function of `step`."""

Metrics = dict[str, Tensor]
Rows = Sequence[Sequence[float]]


class NonFiniteGradientError(RuntimeError):
    """Too many steps in a row had a gradient norm that is not finite: the run is broken, not unlucky."""


@dataclass(frozen=True, slots=True)
class StepTotals:
    """The denominators of one optimizer step: over all micro-batches, and over all ranks where there are several."""

    num_loss_tokens: int
    num_sequences: int

    @classmethod
    def of(cls, samples: Iterable[TrainingSample]) -> StepTotals:
        """Loss tokens, and sequences that have at least one."""
        counts = [sum(sample.loss_mask_T) for sample in samples]
        return cls(sum(counts), sum(1 for count in counts if count))


@dataclass(frozen=True, slots=True, kw_only=True)
class _LossTokens:
    """The tokens of one micro-batch that carry loss, in row order, as [1, N] for the losses."""

    logprobs_BT: Tensor
    entropy_BT: Tensor
    positions_N: Tensor
    batch: PackedBatch
    indices: list[int]

    def at(self, values_T: Tensor) -> Tensor:
        return values_T[self.positions_N].unsqueeze(0)

    def rows(self, rows: Rows) -> Tensor:
        """Per-token values of the step's samples, given row by row, at these tokens."""
        flat = [value for index in self.indices for value in rows[index]]
        if len(flat) != self.batch.num_tokens:
            raise ValueError(f"per-token rows hold {len(flat)} values for {self.batch.num_tokens} tokens")
        return self.at(torch.tensor(flat, dtype=torch.float32, device=self.positions_N.device))


class Learner:
    """A model in training with its optimizer and schedule.

    `reduce_gradients` is called with all gradients before the norm is taken: a data-parallel rank passes an all-reduce
    (sum) and gives every step the `StepTotals` of all ranks.
    """

    def __init__(
        self,
        model_folder: Path | str,
        config: LearnerConfig,
        *,
        device: torch.device | str = "cpu",
        seed: int = 0,
        reduce_gradients: Callable[[list[Tensor]], None] | None = None,
    ) -> None:
        config.validate()
        torch.manual_seed(seed)
        self.config = config
        self.device = torch.device(device)
        self.model = load_for_training(model_folder, config.attention, config.adapter, self.device)
        self.model.train()  # gradient checkpointing asks for it; a model's own dropout is 0
        self.routers = RouterWatch(
            self.model, train_router=config.train_router, balance_coef=config.router_balance_coef
        )
        if config.gradient_checkpointing:
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        self.backbone, self.head_weight, self.head_bias = split_model(self.model)
        self.parameters = trained_parameters(self.model, config.adapter)
        self.trained = [parameter for parameter in self.parameters.values() if parameter.requires_grad]
        self.optimizer = self._build_optimizer()
        self.reduce_gradients = reduce_gradients
        self.step = 0
        self.skipped_steps = 0
        self.skipped_in_a_row = 0

    def _build_optimizer(self) -> torch.optim.AdamW:
        """AdamW that decays matrices only: norms and biases set a scale and have no reason to shrink."""
        config = self.config
        groups = [
            {"params": [p for p in self.trained if p.ndim >= 2], "weight_decay": config.weight_decay},
            {"params": [p for p in self.trained if p.ndim < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)

    # -- one step -----------------------------------------------------------------------------------------------------

    def sft_step(self, samples: Sequence[TrainingSample], *, totals: StepTotals | None = None) -> StepResult:
        """One optimizer step on the mean negative log-likelihood of the loss tokens (nats a token)."""
        totals = totals or StepTotals.of(samples)

        def objective(tokens: _LossTokens) -> tuple[Tensor, Metrics]:
            mask_BT = torch.ones_like(tokens.logprobs_BT, dtype=torch.bool)
            loss, metrics = sft_loss(tokens.logprobs_BT, mask_BT, num_loss_tokens=totals.num_loss_tokens)
            return loss, metrics | {"entropy_sum": tokens.entropy_BT.detach().sum()}

        return self._optimizer_step(samples, totals, objective)

    def rl_step(
        self,
        samples: Sequence[TrainingSample],
        *,
        entropy_coef: float | None = None,
        proximal: Rows | None = None,
        reference: Rows | None = None,
        totals: StepTotals | None = None,
    ) -> StepResult:
        """One optimizer step on the policy loss over all samples.

        `entropy_coef` replaces the loss's own for this step. `proximal` and `reference` are log-probabilities in nats,
        one row a sample and one value a token, as `logprobs` returns them. The metrics `engine_gap_mean` and
        `engine_gap_max` are |log pi - log mu| on loss tokens in nats: rounding and staleness of the engine's weights.
        """
        loss_config = self.config.objective
        if entropy_coef is not None:
            loss_config = dataclasses.replace(loss_config, entropy_coef=entropy_coef)
        if (proximal is not None) != (self.config.proximal_logprobs == "recompute"):
            given = "given" if proximal is not None else "missing"
            raise ValueError(
                f"proximal_logprobs={self.config.proximal_logprobs!r}, but the argument proximal is {given}"
            )
        totals = totals or StepTotals.of(samples)

        def objective(tokens: _LossTokens) -> tuple[Tensor, Metrics]:
            logprobs_BT, batch = tokens.logprobs_BT, tokens.batch
            proximal_BT = logprobs_BT.detach() if loss_config.takes_proximal else None
            loss, metrics = policy_loss(
                logprobs_BT,
                tokens.at(batch.behavior_logprobs_T),
                tokens.at(batch.advantages_T),
                torch.ones_like(logprobs_BT, dtype=torch.bool),
                config=loss_config,
                num_loss_tokens=totals.num_loss_tokens,
                num_sequences=totals.num_sequences,
                sequence_ids_BT=tokens.at(batch.sequence_ids_T),
                proximal_logprobs_BT=proximal_BT if proximal is None else tokens.rows(proximal),
                reference_logprobs_BT=None if reference is None else tokens.rows(reference),
                entropy_BT=tokens.entropy_BT if loss_config.entropy_coef else tokens.entropy_BT.detach(),
            )
            gap_BT = (logprobs_BT.detach() - tokens.at(batch.behavior_logprobs_T)).abs()
            return loss, metrics | {"engine_gap_mean_sum": gap_BT.sum(), "engine_gap_max": gap_BT.max()}

        return self._optimizer_step(samples, totals, objective)

    def _optimizer_step(
        self,
        samples: Sequence[TrainingSample],
        totals: StepTotals,
        objective: Callable[[_LossTokens], tuple[Tensor, Metrics]],
    ) -> StepResult:
        if totals.num_loss_tokens < 1:
            raise UserError(f"samples: none of {len(samples)} rows has a token with loss mask 1; check the loss masks")
        self.optimizer.zero_grad(set_to_none=True)
        micro_metrics: list[Metrics] = []
        num_tokens = num_slots = num_microbatches = 0
        bins = pack([len(sample.token_ids_T) for sample in samples], self.config.microbatch_tokens)
        forwards = (
            self._hidden_states(PackedBatch.from_samples([samples[index] for index in indices], self.device))
            for indices in bins
        )
        self.routers.begin(forwards, num_microbatches=len(bins), reduce=self.reduce_gradients)
        for indices in bins:
            batch = PackedBatch.from_samples([samples[index] for index in indices], self.device)
            tokens, row_slots = self._forward(batch, indices)
            if tokens.positions_N.numel():
                loss, metrics = objective(tokens)
                micro_metrics.append(metrics)
            else:
                loss = tokens.logprobs_BT.sum()  # 0 with a graph: ranks that shard weights must all run backward
            (loss + self.routers.observe()).backward()
            num_microbatches += 1
            num_tokens, num_slots = num_tokens + batch.num_tokens, num_slots + row_slots
        metrics_of_step = reduce_metrics(micro_metrics) if micro_metrics else {}
        metrics_of_step["num_loss_tokens"] = metrics_of_step.pop("num_tokens", 0.0)
        lr = learning_rate(self.config, self.step)
        grad_norm, skipped = self._apply_gradients(lr)
        self.step += 1
        return StepResult(
            self.step,
            metrics_of_step | self.routers.metrics(self.reduce_gradients) | {
                "num_tokens": float(num_tokens), "num_microbatches": float(num_microbatches),
                "padding_share": 1.0 - num_tokens / num_slots if num_slots else 0.0,
                "grad_norm": grad_norm, "grad_clipped": float(grad_norm > self.config.max_grad_norm), "lr": lr,
                "step_skipped": float(skipped), "skipped_steps": float(self.skipped_steps),
            },
        )  # fmt: skip

    def _hidden_states(self, batch: PackedBatch) -> tuple[Tensor, int]:
        """Final hidden states [T, H] of the packed row, and how many slots attention used for them."""
        kwargs = attention_kwargs(batch, self.config.attention)
        autocast = self.config.dtype == "bfloat16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16) if autocast else contextlib.nullcontext():
            output = self.backbone(
                input_ids=batch.token_ids_T.unsqueeze(0),
                position_ids=batch.position_ids_T.unsqueeze(0),
                use_cache=False,
                **kwargs,
            )
        layout = kwargs.get("packed_layout")
        return output.last_hidden_state[0], layout.num_slots if isinstance(layout, PackedLayout) else batch.num_tokens

    def _logprobs_at(
        self, hidden_TH: Tensor, batch: PackedBatch, positions_N: Tensor, *, with_entropy: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Log-probability (and entropy) of the tokens at these positions: the hidden state at t-1 predicts token t."""
        return chunked_logprobs(
            hidden_TH.index_select(0, positions_N - 1),
            self.head_weight,
            batch.token_ids_T[positions_N],
            temperature_N=batch.temperature_T[positions_N],
            chunk_bytes=self.config.chunk_bytes,
            with_entropy=with_entropy,
            bias=self.head_bias,
            compute_dtype=torch.bfloat16 if self.config.dtype == "bfloat16" else None,
        )

    def _forward(self, batch: PackedBatch, indices: list[int]) -> tuple[_LossTokens, int]:
        hidden_TH, num_slots = self._hidden_states(batch)
        positions_N = batch.loss_positions_N
        logprobs_N, entropy_N = self._logprobs_at(hidden_TH, batch, positions_N, with_entropy=True)
        assert entropy_N is not None
        tokens = _LossTokens(
            logprobs_BT=logprobs_N.unsqueeze(0),
            entropy_BT=entropy_N.unsqueeze(0),
            positions_N=positions_N,
            batch=batch,
            indices=indices,
        )
        return tokens, num_slots

    def _apply_gradients(self, lr: float) -> tuple[float, bool]:
        """Norm, then skip or clip and update; returns the norm before clipping and whether the step was skipped.

        The decision hangs on the reduced gradients alone, so that all ranks agree. A skipped step leaves weights and
        moments as they were and uses up its place in the schedule.
        """
        for parameter in self.trained:
            if parameter.grad is None:  # no micro-batch on this rank: it still has to take part in the reduction
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in self.trained if parameter.grad is not None]
        if self.reduce_gradients is not None:
            self.reduce_gradients(gradients)
        norm = torch.nn.utils.get_total_norm(gradients)
        if not bool(torch.isfinite(norm)):
            self.skipped_steps += 1
            self.skipped_in_a_row += 1
            if self.skipped_in_a_row > self.config.max_skipped_steps:
                raise NonFiniteGradientError(
                    f"gradient norm {float(norm)} at step {self.step}, {self.skipped_in_a_row} steps in a row; "
                    "look for non-finite advantages or log-probabilities, or lower lr"
                )
            return float(norm), True
        self.skipped_in_a_row = 0
        torch.nn.utils.clip_grads_with_norm_(self.trained, self.config.max_grad_norm, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        return float(norm), False

    # -- views of the policy ------------------------------------------------------------------------------------------

    @torch.no_grad()
    def logprobs(
        self,
        rows: Sequence[Sequence[int]],
        temperature: float = 1.0,
        *,
        loss_masks: Sequence[Sequence[int]] | None = None,
    ) -> list[list[float]]:
        """Log-probability in nats of each token given those before it, on the path that training takes.

        The first token of a row has no prediction and gets 0.0. With `loss_masks` only the tokens that they mark are
        scored and the others get 0.0. A training step on the same rows and masks then gives the same bits: the head's
        product over another number of tokens may take another kernel, which rounds otherwise (seen on AMD).
        Raises UserError for rows that are empty or too long.
        """
        bins = pack([len(row) for row in rows], self.config.microbatch_tokens)
        masks = loss_masks if loss_masks is not None else [(0, *[1] * (len(row) - 1)) for row in rows]
        samples = [
            TrainingSample(tuple(row), tuple(mask), zeros, zeros, temperature)
            for row, mask in zip(rows, masks, strict=True)
            for zeros in [(0.0,) * len(row)]
        ]
        result: list[list[float]] = [[] for _ in samples]
        for indices in bins:
            batch = PackedBatch.from_samples([samples[index] for index in indices], self.device)
            positions_N = batch.loss_positions_N
            logprobs_T = torch.zeros(batch.num_tokens, device=self.device)
            hidden_TH, _ = self._hidden_states(batch)
            logprobs_T[positions_N], _ = self._logprobs_at(hidden_TH, batch, positions_N, with_entropy=False)
            for index, values in zip(indices, batch.unpack(logprobs_T.cpu()), strict=True):
                result[index] = values.tolist()
        return result

    def weights(self, *, max_lora_rank: int = 0) -> dict[str, Tensor] | AdapterWeights:
        """Copies on the CPU of all tensors that the engine wants, `lm_head.weight` included; later steps leave them.

        With an adapter that an engine of `max_lora_rank` serves apart, the adapter alone.
        """
        adapter = self.config.adapter
        if adapter is not None and adapter.serves_adapter(max_lora_rank):
            return adapter_weights(self.model, adapter)
        return {name: tensor.to("cpu", copy=True) for name, tensor in engine_state_dict(self.model).items()}

    def export(self, folder: Path | str, tokenizer: PreTrainedTokenizerBase) -> Path:
        """Write the model as an ordinary Hugging Face folder, atomically."""
        return export_model(self.model, tokenizer, folder, self.config.adapter)

    # -- resumption ---------------------------------------------------------------------------------------------------

    def save_state(self, folder: Path | str) -> None:
        """Write all that a bitwise resumption needs: weights, moments, schedule position, counters, generators."""
        write_trainer_state(
            Path(folder),
            parameters=self.parameters,
            optimizer=self.optimizer,
            device=self.device,
            counters={name: getattr(self, name) for name in COUNTERS},
            config=_json(self.config),
        )

    @torch.no_grad()
    def load_state(self, folder: Path | str) -> list[str]:
        """Continue exactly where `save_state` left off; returns the names of the restored parts.

        Raises CheckpointError, before anything is changed, naming the file or config field that does not fit.
        """
        state = read_trainer_state(
            Path(folder), parameters=self.parameters, device=self.device, config=_json(self.config)
        )
        self.optimizer.state.clear()
        for name, parameter in self.parameters.items():
            parameter.copy_(state.weights[name])
            if name in state.moments:
                self.optimizer.state[parameter] = {
                    key: tensor.to(self.device) for key, tensor in state.moments[name].items()
                }
        for name in COUNTERS:
            setattr(self, name, int(state.counters[name]))
        torch.set_rng_state(state.generators["cpu"])
        if "cuda" in state.generators:
            torch.cuda.set_rng_state(state.generators["cuda"], self.device)
        return ["weights", "optimizer", "schedule", *COUNTERS, "torch_rng"]


def _json(config: LearnerConfig) -> dict[str, Any]:
    """The config as JSON gives it back (tuples become lists), so that saved and present ones compare."""
    return json.loads(json.dumps(dataclasses.asdict(config)))
