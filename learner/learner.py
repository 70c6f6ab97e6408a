"""The learner: one optimizer step over given samples, by one process or by several ranks together.

    TrainingSample* -> micro-batches by rank (packing) -> packed row -> log-probabilities of the tokens that carry loss
    (policy_network) -> loss (losses) -> gradients -> sum over ranks -> norm, skip or clip -> AdamW -> StepResult

It knows neither rewards nor the engine: samples come in, weights and metrics go out. Every rank is given all samples of
a step and takes its share of them. Denominators count the whole optimizer step, so micro-batches and ranks change
memory and time and never the gradient. The same inputs give the same bits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from data.adapter import AdapterWeights
from data.records import StepResult, TrainingSample, UserError
from learner.context_length import require_positions
from learner.experts import RouterWatch, per_expert_tensors
from learner.flops import ModelFlops
from learner.gradient_checkpointing import checkpointed, enable_checkpointing, offloaded
from learner.head_loss import TokenLoss
from learner.learner_config import LearnerConfig, learning_rate
from learner.lora import adapter_weights, trained_parameters
from learner.losses import policy_loss, reduce_metrics, sft_loss
from learner.model_folder import export_model, load_for_training, plain_state_dict
from learner.packing import PackedBatch, plan_microbatches
from learner.policy_network import PolicyNetwork
from learner.ranks import Ranks
from learner.sharding import gather_on_first, shard_network, whole
from learner.step_timer import StepTimer
from learner.step_work import DeviceUse, StepTotals, StepWork
from learner.trainer_state import read_trainer_state, write_trainer_state

__all__ = ["Learner", "LearnerConfig", "NonFiniteGradientError", "learning_rate"]

COUNTERS = ("step", "skipped_steps", "skipped_in_a_row")
"""What of a learner's progress is saved as integers; the schedule is a function of `step`."""

NOTHING = TrainingSample.supervised((0,), (0,))
"""What a rank without samples runs, so that ranks which share weights all take part; it carries no loss."""

Metrics = dict[str, Tensor]
Rows = Sequence[Sequence[float]]
MicroBatchLoss = Callable[[Tensor, Tensor, slice], tuple[Tensor, Metrics]]
"""Loss and metrics of some of a micro-batch's loss tokens: of their log-probabilities and entropies, and which."""

Objective = Callable[[PackedBatch, list[int], StepTotals], MicroBatchLoss]
"""Makes the loss of a micro-batch, of the samples with these indices."""


class NonFiniteGradientError(RuntimeError):
    """Too many steps in a row had a gradient norm that is not finite: the run is broken, not unlucky."""


class Learner:
    """A model in training with its optimizer and schedule; one of `ranks`, each with the same samples and weights."""

    def __init__(
        self,
        model_folder: Path | str,
        config: LearnerConfig,
        *,
        device: torch.device | str = "cpu",
        seed: int = 0,
        ranks: Ranks | None = None,
        sharding: Literal["replicate", "full"] = "replicate",
        offload_optimizer: bool = False,
    ) -> None:
        config.validate()
        torch.manual_seed(seed)
        self.config = config
        self.device = torch.device(device)
        DeviceUse.reset(self.device)
        self.ranks = ranks or Ranks()
        self.sharded = sharding == "full"
        if self.sharded and config.adapter is not None:
            raise UserError("learner.sharding='full': an adapter's frozen base is not sharded yet; use replicate")
        self.model = load_for_training(model_folder, config.attention, config.adapter, self.device)
        self.model.train()  # gradient checkpointing asks for it; a model's own dropout is 0
        self.routers = RouterWatch(
            self.model, train_router=config.train_router, balance_coef=config.router_balance_coef
        )
        if config.gradient_checkpointing:
            enable_checkpointing(self.model)
        self.network = PolicyNetwork(self.model, config)
        if self.sharded:
            shard_network(self.network, self.device, num_ranks=self.ranks.size, offload_optimizer=offload_optimizer)
        self.flops = ModelFlops.of(self.model.config)
        self.parameters = trained_parameters(self.model, config.adapter)
        self.trained = [parameter for parameter in self.parameters.values() if parameter.requires_grad]
        self.optimizer = self._build_optimizer()
        # Sharded gradients are summed as the backward pass goes.
        self.reduce_gradients = self._keep_gradients if self.sharded else self.ranks.sum_gradients
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

    def sft_step(self, samples: Sequence[TrainingSample]) -> StepResult:
        """One optimizer step on the mean negative log-likelihood of the loss tokens (nats a token)."""

        def objective(batch: PackedBatch, indices: list[int], totals: StepTotals) -> MicroBatchLoss:
            def loss_of(logprobs_C: Tensor, entropy_C: Tensor, rows: slice) -> tuple[Tensor, Metrics]:
                mask_BT = torch.ones_like(logprobs_C[None], dtype=torch.bool)
                loss, metrics = sft_loss(logprobs_C[None], mask_BT, num_loss_tokens=totals.num_loss_tokens)
                return loss, metrics | {"entropy_sum": entropy_C.detach().sum()}

            return loss_of

        return self._optimizer_step(samples, objective, separable=True)

    def rl_step(
        self,
        samples: Sequence[TrainingSample],
        *,
        entropy_coef: float | None = None,
        proximal: Rows | None = None,
        reference: Rows | None = None,
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

        def objective(batch: PackedBatch, indices: list[int], totals: StepTotals) -> MicroBatchLoss:
            given = {
                name: batch.at_loss([rows[index] for index in indices])
                for name, rows in (("proximal", proximal), ("reference", reference))
                if rows is not None
            }

            def loss_of(logprobs_C: Tensor, entropy_C: Tensor, rows: slice) -> tuple[Tensor, Metrics]:
                logprobs_BT, behavior_BT = logprobs_C[None], batch.behavior_logprobs_N[None, rows]
                own_BT = logprobs_BT.detach() if loss_config.takes_proximal else None
                loss, metrics = policy_loss(
                    logprobs_BT,
                    behavior_BT,
                    batch.advantages_N[None, rows],
                    torch.ones_like(logprobs_BT, dtype=torch.bool),
                    config=loss_config,
                    num_loss_tokens=totals.num_loss_tokens,
                    num_sequences=totals.num_sequences,
                    sequence_ids_BT=batch.sequence_ids_N[None, rows],
                    proximal_logprobs_BT=given["proximal"][None, rows] if "proximal" in given else own_BT,
                    reference_logprobs_BT=given["reference"][None, rows] if "reference" in given else None,
                    entropy_BT=(entropy_C if loss_config.entropy_coef else entropy_C.detach())[None],
                )
                gap_BT = (logprobs_BT.detach() - behavior_BT).abs()
                return loss, metrics | {"engine_gap_mean_sum": gap_BT.sum(), "engine_gap_max": gap_BT.max()}

            return loss_of

        return self._optimizer_step(samples, objective, separable=loss_config.separable)

    def _optimizer_step(
        self, samples: Sequence[TrainingSample], objective: Objective, *, separable: bool
    ) -> StepResult:
        totals = StepTotals.of(samples)
        if totals.num_loss_tokens < 1:
            raise UserError(f"samples: none of {len(samples)} rows has a token with loss mask 1; check the loss masks")
        timer = StepTimer(self.device)
        self.optimizer.zero_grad(set_to_none=True)
        parts: list[Metrics] = []
        work = StepWork()
        plan = self._plan(samples)
        mine = plan[self.ranks.rank]
        self._count_choices(samples, mine)
        for place, indices in enumerate(mine):
            with timer.phase("pack"):
                batch = self._packed([samples[index] for index in indices] or [NOTHING])
                loss_of = objective(batch, indices, totals)
            # All ranks recompute or none: those that share weights gather them for each layer that runs.
            recompute = any(self._is_long(samples[index]) for rank in plan for index in rank[place])
            kept = offloaded(self.device, self.config.offload_activations)
            with timer.phase("forward"), checkpointed(self.model, recompute), kept:
                loss, num_slots = self.network(batch, _recording(loss_of, parts), separable=separable)
                loss = loss + self.routers.observe(counts=bool(indices))
            with timer.phase("backward"):
                loss.backward()
            if indices:
                work.add(batch, num_slots, self.flops, num_long=sum(self._is_long(samples[i]) for i in indices))
        lr = learning_rate(self.config, self.step)
        with timer.phase("update"):
            grad_norm, skipped = self._apply_gradients(lr)
        self.step += 1
        # Read once all work is queued: a value read earlier would make an accelerator wait.
        read = [{name: float(value) for name, value in part.items()} for part in parts]
        gathered = self.ranks.gather((read, work, DeviceUse.now(self.device, self.config.dtype)))
        metrics_of_step = reduce_metrics([part for rank_parts, _, _ in gathered for part in rank_parts])
        metrics_of_step["num_loss_tokens"] = metrics_of_step.pop("num_tokens")
        return StepResult(
            self.step,
            metrics_of_step
            | StepWork.total([rank_work for _, rank_work, _ in gathered]).metrics()
            | self.routers.metrics(self._reduce)
            | {
                "grad_norm": grad_norm, "grad_clipped": float(grad_norm > self.config.max_grad_norm), "lr": lr,
                "step_skipped": float(skipped), "skipped_steps": float(self.skipped_steps),
            },
            timer.seconds() | DeviceUse.timing([use for _, _, use in gathered]),
        )  # fmt: skip

    @property
    def _reduce(self) -> Callable[[list[Tensor]], None] | None:
        """Adds tensors up over the ranks; None for a rank alone."""
        return self.ranks.sum_gradients if self.ranks.size > 1 else None

    def _count_choices(self, samples: Sequence[TrainingSample], mine: Sequence[list[int]]) -> None:
        """Begin a step of the routers, who may have to see all micro-batches before the first one's loss."""

        def forwards() -> Iterator[bool]:
            for indices in mine:
                self.network(self._packed([samples[index] for index in indices] or [NOTHING]))
                yield bool(indices)

        self.routers.begin(forwards(), num_microbatches=len(mine), reduce=self._reduce)

    def _is_long(self, sample: TrainingSample) -> bool:
        return len(sample.token_ids_T) > self.config.microbatch_tokens

    def _plan(self, samples: Sequence[TrainingSample]) -> list[list[list[int]]]:
        require_positions(self.model.config, (len(sample.token_ids_T) for sample in samples))
        return plan_microbatches(
            samples,
            self.config.microbatch_tokens,
            share_prompts=self.config.shares_prompts,
            long_alone=self.config.long_samples == "alone",
            num_ranks=self.ranks.size,
            cost=lambda num_tokens, lengths: self.flops.forward(num_tokens, lengths, num_predictions=0),
        )

    def _packed(self, samples: Sequence[TrainingSample]) -> PackedBatch:
        return PackedBatch.from_samples(samples, self.device, share_prompts=self.config.shares_prompts)

    def _keep_gradients(self, gradients: Sequence[Tensor]) -> None:
        """What is summed already needs no more."""

    def _apply_gradients(self, lr: float) -> tuple[float, bool]:
        """Norm, then skip or clip and update; returns the norm before clipping and whether the step was skipped.

        The decision hangs on the reduced gradients alone, so that all ranks agree. A skipped step leaves weights and
        moments as they were and uses up its place in the schedule.
        """
        for parameter in self.trained:
            if parameter.grad is None:  # no micro-batch on this rank: it still has to take part in the reduction
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in self.trained if parameter.grad is not None]
        self.reduce_gradients(gradients)
        norm = whole(torch.nn.utils.get_total_norm(gradients))
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
        masks = loss_masks if loss_masks is not None else [(0, *[1] * (len(row) - 1)) for row in rows]
        samples = [
            TrainingSample(tuple(row), tuple(mask), zeros, zeros, temperature)
            for row, mask in zip(rows, masks, strict=True)
            for zeros in [(0.0,) * len(row)]
        ]
        mine: dict[int, list[float]] = {}
        for indices in self._plan(samples)[self.ranks.rank]:
            batch = self._packed([samples[index] for index in indices] or [NOTHING])
            logprobs_N, _ = self.network(batch)
            for index, values in zip(indices, batch.rows_of(logprobs_N.cpu()), strict=False):
                mine[index] = values.tolist()
        scored = {index: row for part in self.ranks.gather(mine) for index, row in part.items()}
        return [scored[index] for index in range(len(samples))]

    def weights(self, *, max_lora_rank: int = 0, copy: bool = True) -> dict[str, Tensor] | AdapterWeights:
        """Copies on the CPU of all tensors that the engine wants, `lm_head.weight` included; later steps leave them.

        With an adapter that an engine of `max_lora_rank` serves apart, the adapter alone. Of a sharded model the first
        rank gets all, the others nothing. Without `copy` later steps change what the caller got.
        """
        adapter = self.config.adapter
        if adapter is not None and adapter.serves_adapter(max_lora_rank):
            return adapter_weights(self.model, adapter)
        return per_expert_tensors(
            gather_on_first(plain_state_dict(self.model), is_first=self.ranks.rank == 0, copy=copy)
        )

    def export(self, folder: Path | str, tokenizer: PreTrainedTokenizerBase) -> Path:
        """Write the model as an ordinary Hugging Face folder, atomically; the first rank does."""
        state = gather_on_first(self.model.state_dict(), is_first=self.ranks.rank == 0) if self.sharded else None
        if self.ranks.rank == 0:
            export_model(self.model, tokenizer, folder, self.config.adapter, state=state)
        return Path(folder)

    # -- resumption ---------------------------------------------------------------------------------------------------

    def save_state(self, folder: Path | str) -> None:
        """Write all that a bitwise resumption needs: weights, moments, schedule position, counters, generators.

        All ranks call it together; the generators are the first rank's.
        """
        write_trainer_state(
            Path(folder),
            parameters=self.parameters,
            optimizer=self.optimizer,
            device=self.device,
            counters={name: getattr(self, name) for name in COUNTERS},
            config=self.config.as_json(),
            ranks=self.ranks,
        )

    @torch.no_grad()
    def load_state(self, folder: Path | str) -> list[str]:
        """Continue exactly where `save_state` left off; returns the names of the restored parts.

        Raises CheckpointError, before anything is changed, naming the file or config field that does not fit.
        """
        state = read_trainer_state(
            Path(folder), parameters=self.parameters, device=self.device, config=self.config.as_json()
        )
        self.optimizer.state.clear()
        for name, parameter in self.parameters.items():
            parameter.copy_(state.weights[name])
            if name in state.moments:
                self.optimizer.state[parameter] = {
                    key: tensor.to(parameter.device) for key, tensor in state.moments[name].items()
                }
        for name in COUNTERS:
            setattr(self, name, int(state.counters[name]))
        torch.set_rng_state(state.generators["cpu"])
        if "cuda" in state.generators:
            torch.cuda.set_rng_state(state.generators["cuda"], self.device)
        return ["weights", "optimizer", "schedule", *COUNTERS, "torch_rng"]


def _recording(loss_of: MicroBatchLoss, parts: list[Metrics]) -> TokenLoss:
    """The loss alone, with the metrics of every call kept in `parts`; nothing is asked where no token carries loss."""

    def token_loss(logprobs_C: Tensor, entropy_C: Tensor, rows: slice) -> Tensor:
        if not logprobs_C.numel():
            return logprobs_C.sum()  # 0 with a graph: ranks that share weights must all run backward
        loss, metrics = loss_of(logprobs_C, entropy_C, rows)
        parts.append(metrics)
        return loss

    return token_loss
