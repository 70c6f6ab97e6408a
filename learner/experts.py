"""Mixture of experts in the learner: the frozen router, the global-batch balance loss, and the load of the experts.

    router (frozen unless train_router) -> logits and chosen experts of every token (RouterWatch)
    -> share of choices f and mean probability P over the whole optimizer step -> balance loss, load metrics

Post-training moves the experts and leaves the router alone by default: sampling and training then send a token to the
same experts, and no loss is needed to keep the load even. Packed rows hold no padding, so every token of a micro-batch
counts, prompts included.

Shape suffixes: L layers with experts, E experts, T tokens, K experts of a token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeTopKRouter

from data.records import UserError

Reduce = Callable[[list[Tensor]], None]
"""Adds each tensor up over all ranks, in place."""


def load_balancing_loss(choices_LE: Tensor, probabilities_LE: Tensor, num_tokens: float | Tensor) -> Tensor:
    """(1/L) sum_l E sum_i f_li P_li: 1 when the load is even, up to E when one expert takes all.

    f_li is the share of layer l's choices that fell on expert i (counts `choices_LE` over the whole optimizer step,
    detached); P_li is the sum of router probabilities `probabilities_LE` over `num_tokens`. The probabilities may be
    those of one micro-batch and `num_tokens` those of the step: the micro-batches' losses then add up to the step's.

    Source: "Demons in the Detail" [2501.11873], with f over the global batch; Qwen3 report, section 2. Departures: f
    sums to 1 over the experts, whatever the number of experts of a token, and the layers' mean is taken, so that the
    coefficient depends on neither. Raises ValueError for shapes that differ.
    """
    if choices_LE.shape != probabilities_LE.shape:
        raise ValueError(f"choices {tuple(choices_LE.shape)} and probabilities {tuple(probabilities_LE.shape)} differ")
    shares_LE = choices_LE.detach() / choices_LE.detach().sum(-1, keepdim=True)
    mean_probabilities_LE = probabilities_LE / num_tokens
    return choices_LE.shape[-1] * (shares_LE.to(probabilities_LE.dtype) * mean_probabilities_LE).sum(-1).mean()


def expert_load(choices_LE: Tensor) -> Tensor:
    """Per layer [L], the choices of the busiest expert over the mean of all experts: 1 is even, E is one for all."""
    return choices_LE.max(-1).values / choices_LE.mean(-1)


def per_expert_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` with transformers' stacked experts taken apart into the names of a checkpoint folder; other names stay.

    `X.experts.gate_up_proj` [E, 2I, H] becomes `X.experts.e.gate_proj.weight` and `.up_proj.weight` [I, H] for each
    expert e, and `X.experts.down_proj` [E, H, I] becomes `X.experts.e.down_proj.weight` [H, I]. Tensors share memory.
    """
    result: dict[str, Tensor] = {}
    for name, tensor in state.items():
        prefix, _, kind = name.rpartition(".")
        if kind == "gate_up_proj" and prefix.endswith(".experts"):
            for expert, stacked in enumerate(tensor):
                gate, up = stacked.chunk(2)
                result[f"{prefix}.{expert}.gate_proj.weight"], result[f"{prefix}.{expert}.up_proj.weight"] = gate, up
        elif kind == "down_proj" and prefix.endswith(".experts"):
            result |= {f"{prefix}.{expert}.down_proj.weight": down for expert, down in enumerate(tensor)}
        else:
            result[name] = tensor
    return result


class RouterWatch:
    """The routers of a model: frozen or not, and what they chose over one optimizer step.

    For a model without experts every method does nothing. A step is `begin`, then `observe` after the forward pass of
    each micro-batch and before its backward pass, then `metrics`. Raises UserError for a dense model whose router is to
    be trained.
    """

    def __init__(self, model: nn.Module, *, train_router: bool, balance_coef: float) -> None:
        self._routers = [module for module in model.modules() if isinstance(module, Qwen3MoeTopKRouter)]
        if train_router and not self._routers:
            raise UserError("learner.train_router=True: the model has no experts and so no router; set it to false")
        self._coef = balance_coef
        self._seen: dict[int, tuple[Tensor, Tensor]] = {}  # layer to logits [T, E] and choices [T, K]
        self._choices_LE: Tensor | None = None
        self._step_choices_LE: Tensor | None = None
        self._loss = torch.zeros(())
        for layer, router in enumerate(self._routers):
            router.weight.requires_grad_(train_router)
            router.register_forward_hook(self._hook(layer))

    def _hook(self, layer: int) -> Callable[[nn.Module, object, tuple[Tensor, Tensor, Tensor]], None]:
        def see(_module: nn.Module, _inputs: object, output: tuple[Tensor, Tensor, Tensor]) -> None:
            # Nothing is computed here: under gradient checkpointing the pass runs again, without anyone observing it.
            self._seen[layer] = (output[0], output[2])

        return see

    def begin(self, forwards: Iterable[bool], *, num_microbatches: int, reduce: Reduce | None) -> None:
        """Start a step. `forwards` runs the forward pass of one micro-batch after the other as it is iterated over, and
        says whether its tokens count.

        The balance loss needs the choices of the whole step in its first micro-batch. Where there are several, or
        several ranks, they are counted in a pass without gradients before it: about a third more time a step, exact,
        and none of it when the coefficient is 0 or one micro-batch on one rank is the whole step.
        """
        self._choices_LE = self._step_choices_LE = None
        self._loss = torch.zeros(())
        if not self._routers or not self._coef or (num_microbatches == 1 and reduce is None):
            return
        choices_LE = self._no_choices()
        with torch.no_grad():
            for counts in forwards:
                choices_of_batch_LE = self._take()[0]
                choices_LE += choices_of_batch_LE if counts else 0.0
        if reduce is not None:
            reduce([choices_LE])
        self._step_choices_LE = choices_LE

    def observe(self, *, counts: bool = True) -> Tensor | float:
        """Note what the last forward pass chose; returns its part of coef * balance loss, with its graph, or 0.

        A pass that does not count was run for the company of other ranks alone.
        """
        if not self._routers:
            return 0.0
        choices_LE, logits = self._take()
        if not counts:
            return 0.0
        self._choices_LE = choices_LE if self._choices_LE is None else self._choices_LE + choices_LE
        if not self._coef:
            return 0.0
        probabilities_LE = torch.stack([layer.float().softmax(-1).sum(0) for layer in logits])
        step_LE = choices_LE if self._step_choices_LE is None else self._step_choices_LE
        num_tokens = step_LE[0].sum() / self._routers[0].top_k
        loss = load_balancing_loss(step_LE, probabilities_LE, num_tokens)
        self._loss = self._loss + loss.detach().cpu()
        return self._coef * loss

    def metrics(self, reduce: Reduce | None) -> dict[str, float]:
        """Load of the step over all ranks: `expert_load_max`, the busiest layer's busiest expert over the layer's mean,
        `expert_load_mean`, the mean over layers, and `router_balance_loss` before its coefficient where it is used."""
        if not self._routers:
            return {}
        choices_LE = self._step_choices_LE
        if choices_LE is None:
            choices_LE = self._no_choices() if self._choices_LE is None else self._choices_LE
            if reduce is not None:
                reduce([choices_LE])
        load_L = expert_load(choices_LE)
        found = {"expert_load_max": float(load_L.max()), "expert_load_mean": float(load_L.mean())}
        if self._coef:
            loss = self._loss.to(choices_LE.device)
            if reduce is not None:
                reduce([loss])
            found["router_balance_loss"] = float(loss)
        self._seen.clear()
        return found

    def _no_choices(self) -> Tensor:
        weight = self._routers[0].weight
        return torch.zeros(len(self._routers), weight.shape[0], dtype=torch.float64, device=weight.device)

    def _take(self) -> tuple[Tensor, list[Tensor]]:
        """Choices [L, E] and, layer by layer, the logits [T, E] of the pass that ran last."""
        seen = [self._seen[layer] for layer in range(len(self._routers))]
        self._seen.clear()
        num_experts = self._routers[0].weight.shape[0]
        counts = [torch.bincount(chosen.flatten(), minlength=num_experts) for _, chosen in seen]
        return torch.stack(counts).double(), [logits for logits, _ in seen]
