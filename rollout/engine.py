"""The one owner of vLLM: a step loop that takes requests and weight updates between two steps.

The engine runs inside this process (no separate engine process), so that the caller decides when a step happens, a
weight update falls between two steps with requests in flight, and the same seeds repeat bit for bit. Sampled ids and
log-probabilities leave it as they came; nothing is tokenised a second time.

Thinking budgets (report §4.3 and Qwen's documentation of the protocol) are the engine's own: `ReasoningConfig` holds
the stop-thinking sentence and `SamplingParams.thinking_token_budget` the number of tokens. Tokens that the engine
forced are marked in `Completion.forced`, so that no loss falls on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from data.adapter import AdapterWeights
from data.chat import STOP_THINKING, THINK_CLOSE, THINK_OPEN
from data.model_folder import require_model_folder, require_positions
from data.quick_imports import quick_imports
from data.records import Completion, FinishReason, UserError, VersionSpan
from data.tokenizer import end_token_ids, require_chat_tokens
from rollout.adapters import AdapterShelf, ServedAdapter, adapter_arguments, require_adapters_served
from rollout.agent_loop import run_to_end
from rollout.config import CPU_BLOCK_SIZE, REASONING, EngineConfig, kv_cache_bytes
from rollout.forced_tokens import forced_tokens, recognise_natural_end
from rollout.policy import EpisodeSetup, GenerationRequest
from rollout.vllm_environment import prepare_environment


class Engine:
    """A vLLM engine in this process with a step loop of its own.

    `submit` and `step` are the loop; `generate` runs it to the end of a batch. `update_weights` may be called between
    two steps: requests in flight go on with the new weights and say so in `Completion.weight_versions`.
    """

    def __init__(self, model_folder: str | Path, config: EngineConfig, *, version: int = 0) -> None:
        config.validate()
        require_model_folder(model_folder)
        require_adapters_served(model_folder, config.max_lora_rank, on_cpu=not torch.cuda.is_available())
        prepare_environment()
        with quick_imports("vllm"):
            from transformers import AutoTokenizer
            from vllm import EngineArgs, SamplingParams
            from vllm.config import ReasoningConfig
            from vllm.lora.request import LoRARequest
            from vllm.sampling_params import RequestOutputKind
            from vllm.v1.engine.llm_engine import LLMEngine

        require_positions(model_folder, config.max_model_len)
        self.config = config
        self.model_folder = str(model_folder)
        self.tokenizer = AutoTokenizer.from_pretrained(self.model_folder)
        require_chat_tokens(self.tokenizer, self.model_folder)
        self._sampling_params = SamplingParams
        self._final_only = RequestOutputKind.FINAL_ONLY
        self._engine = LLMEngine.from_engine_args(
            EngineArgs(
                model=self.model_folder,
                dtype=config.dtype,
                max_model_len=config.max_model_len,
                max_num_seqs=config.max_num_seqs,
                max_num_batched_tokens=max(config.max_num_batched_tokens, config.max_model_len),
                gpu_memory_utilization=config.gpu_memory_utilization,
                kv_cache_memory_bytes=kv_cache_bytes(config.kv_cache_gib, on_cpu=not torch.cuda.is_available()),
                tensor_parallel_size=config.tensor_parallel_size,
                enforce_eager=config.enforce_eager,
                enable_prefix_caching=config.prefix_caching,
                block_size=config.block_size or (None if torch.cuda.is_available() else CPU_BLOCK_SIZE),
                # A seeded request whose prompt is cut over two steps has its generator wound back by an offset, which
                # a CPU generator does not have (vLLM 0.32: "CPU Generator does not use offset"): whole prompts there.
                enable_chunked_prefill=torch.cuda.is_available(),
                # Log-probabilities under what was sampled from: temperature applied.
                logprobs_mode="processed_logprobs",
                generation_config="vllm",  # sampling comes from the request alone, never from the model folder
                reasoning_config=ReasoningConfig(**REASONING),
                disable_log_stats=True,
                **adapter_arguments(config.max_lora_rank),
                seed=0,
            )
        )
        encode = self.tokenizer.encode
        self._think_open_ids = encode(THINK_OPEN, add_special_tokens=False)
        self._think_close_ids = encode(THINK_CLOSE, add_special_tokens=False)
        self._stop_thinking_ids = encode(STOP_THINKING, add_special_tokens=False)
        self._end_ids = list(end_token_ids(self.tokenizer))
        self._pending: dict[str, tuple[GenerationRequest, ServedAdapter | None]] = {}
        self._over: list[Completion] = []  # ended in a step that was taken for scoring
        self._adapters = AdapterShelf(LoRARequest)
        self._serial = 0
        self._cache_salt = 0
        self.version = version
        self._set_version(version)
        if config.max_lora_rank:
            from rollout.weight_transfer import mend_adapter_kernels

            self._collective_rpc(mend_adapter_kernels)
        self._collective_rpc(recognise_natural_end, self._stop_thinking_ids, self._think_close_ids)

    # ---- the loop

    def submit(self, request: GenerationRequest) -> None:
        """Queue one request; it takes part from the next step on."""
        room = self.config.max_model_len - len(request.prompt_token_ids)
        if room < 1:
            raise UserError(
                f"rollout.max_model_len: {self.config.max_model_len} leaves no room after the prompt "
                f"{request.prompt_uid} of {len(request.prompt_token_ids)} tokens; raise it or shorten the prompt"
            )
        sampling = request.sampling
        request_id = f"{self._serial}"
        self._serial += 1
        self._pending[request_id] = (request, self._adapters.current)
        self._engine.add_request(
            request_id,
            {"prompt_token_ids": list(request.prompt_token_ids), "cache_salt": str(self._cache_salt)},
            self._sampling_params(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                presence_penalty=sampling.presence_penalty,
                max_tokens=min(sampling.max_tokens, room),
                seed=request.seed,
                logprobs=0 if request.want_logprobs else None,
                flat_logprobs=request.want_logprobs,
                stop_token_ids=None if sampling.ignore_end else self._end_ids,
                ignore_eos=sampling.ignore_end,
                thinking_token_budget=sampling.thinking_budget,
                detokenize=False,
                output_kind=self._final_only,
            ),
            lora_request=self._adapter_request(),
        )

    def step(self) -> list[Completion]:
        """One engine step: every running request gets at most one token; returns the completions that finished."""
        finished, self._over = self._over, []
        return finished + (self._take(self._engine.step()) if self._pending else [])

    def _take(self, outputs: Sequence[Any]) -> list[Completion]:
        return [
            self._completion(*self._pending.pop(output.request_id), output.outputs[0])
            for output in outputs
            if output.finished
        ]

    @property
    def num_pending(self) -> int:
        """Requests whose completions `step` has not returned yet."""
        return len(self._pending) + len(self._over)

    def generate(
        self,
        requests: Sequence[GenerationRequest],
        *,
        episodes: Mapping[str, EpisodeSetup] | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        on_finished: Callable[[Sequence[Completion]], None] | None = None,
    ) -> list[Completion]:
        """Run `requests` to their end (`rollout.policy.Policy`); completions come in the order of the requests."""
        if self.num_pending:
            raise RuntimeError(
                f"engine: {self.num_pending} requests are still in flight; finish them before generate()"
            )
        self.reset_prefix_cache()  # the same batch gives the same bits whatever ran before it
        return run_to_end(
            self,
            requests,
            tokenizer=self.tokenizer,
            episodes=episodes,
            on_progress=on_progress,
            on_finished=on_finished,
        )

    def score(self, rows: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log-probability in nats at temperature 1 of every token of `rows` given those before it; the first's is 0.

        Runs as prompt log-probabilities (to which the engine never applies a temperature), so it uses the same kernels
        as generation does. The last token comes as the next one after the others: a row may fill the whole context,
        which leaves a prompt of that length no room for the token that the engine insists on sampling. Requests in
        flight go on meanwhile; rows share no cached keys and values with them or with each other.
        """
        scored = [[0.0] * len(row) for row in rows]
        running: dict[str, int] = {}
        for index, row in enumerate(rows):
            if len(row) < 2:
                continue
            params = self._sampling_params(
                temperature=1.0,
                max_tokens=1,
                prompt_logprobs=0,
                logprob_token_ids=[row[-1]],
                detokenize=False,
                output_kind=self._final_only,
            )
            request_id = f"score-{self._serial}"
            self._serial += 1
            running[request_id] = index
            prompt = {"prompt_token_ids": list(row[:-1]), "cache_salt": request_id}
            self._engine.add_request(request_id, prompt, params, lora_request=self._adapter_request())
        while running:
            outputs = self._engine.step()
            self._over += self._take([output for output in outputs if output.request_id in self._pending])
            for output in outputs:
                if output.finished and output.request_id in running:
                    index = running.pop(output.request_id)
                    entries = [*output.prompt_logprobs, output.outputs[0].logprobs[0]]
                    scored[index][1:] = [
                        entry[token].logprob for entry, token in zip(entries[1:], rows[index][1:], strict=True)
                    ]
        return scored

    # ---- weights

    def update_weights(self, weights: Mapping[str, torch.Tensor] | AdapterWeights, *, version: int) -> None:
        """Load `weights` (checkpoint names, `lm_head.weight` included) between two steps and name them `version`.

        Keys and values of the old weights serve no request that is submitted from now on (`reset_prefix_cache`);
        requests in flight keep theirs. An adapter is served on the base as it is, to requests from now on: those in
        flight go on with the one they began with, and say so. Weights replace the base and end the serving of an
        adapter.
        """
        from rollout.weight_transfer import load_into_worker

        if isinstance(weights, AdapterWeights):
            self._serve(weights, version)
        else:
            if any(adapter is not None for _, adapter in self._pending.values()):
                raise RuntimeError("engine: requests with an adapter are in flight; finish them before a new base")
            self._adapters.current = None
            self._collective_rpc(load_into_worker, dict(weights))
        for unused in self._adapters.drop_unused(adapter for _, adapter in self._pending.values()):
            self._engine.remove_lora(unused.number)
        self.reset_prefix_cache()
        self._set_version(version)

    def _serve(self, weights: AdapterWeights, version: int) -> None:
        if not self.config.max_lora_rank:
            raise UserError(
                "rollout.engine.max_lora_rank=0: the engine was started without room for adapters; set it to the "
                "adapter's rank, or learner.adapter.serve to merged"
            )
        served = self._adapters.put(weights, version)
        if not self._engine.add_lora(served.request):
            raise RuntimeError(f"engine: the adapter of version {version} was not loaded")

    def _adapter_request(self) -> Any:
        return None if self._adapters.current is None else self._adapters.current.request

    def differing_tensors(
        self, weights: Mapping[str, torch.Tensor] | AdapterWeights, *, tolerance: float = 1e-4
    ) -> list[str]:
        """Names of the tensors with which the engine computes something else than `weights` say."""
        from rollout.weight_transfer import differing_adapter_tensors, differing_tensors

        if isinstance(weights, AdapterWeights):
            number = self._adapters.current.number if self._adapters.current is not None else 0
            return self._collective_rpc(differing_adapter_tensors, weights, number, tolerance)[0]
        return self._collective_rpc(differing_tensors, dict(weights), tolerance)[0]

    def reset_prefix_cache(self) -> None:
        """Let no later request use keys and values that are cached now.

        The engine empties its cache only while no request holds a block of it. With requests in flight later ones
        get another salt instead, under which they find nothing of what is there; the old blocks fall out in time.
        """
        if not self.config.prefix_caching or self._engine.reset_prefix_cache():
            return
        if not self._pending:
            raise RuntimeError(
                "engine: the prefix cache could not be emptied; completions would mix two versions of weights"
            )
        self._cache_salt += 1

    def _set_version(self, version: int) -> None:
        self.version = version
        self._engine.set_weight_version(str(version))

    def _collective_rpc(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        return self._engine.collective_rpc(function, args=args)

    # ---- results

    def _completion(self, request: GenerationRequest, adapter: ServedAdapter | None, output: Any) -> Completion:
        token_ids = tuple(output.token_ids)
        logprobs = _sampled_logprobs(output.logprobs, token_ids) if request.want_logprobs else (0.0,) * len(token_ids)
        finish: FinishReason = output.finish_reason if output.finish_reason in ("stop", "length") else "abort"
        spans = tuple(VersionSpan(int(span.version), span.start, span.end) for span in output.weight_versions or ())
        if adapter is not None:  # the engine names its newest version; the request kept the adapter it began with
            spans = (VersionSpan(adapter.version, 0, len(token_ids)),)
        return Completion(
            prompt_uid=request.prompt_uid,
            sample_index=request.sample_index,
            prompt_token_ids=request.prompt_token_ids,
            token_ids=token_ids,
            logprobs=logprobs,
            forced=forced_tokens(
                request.prompt_token_ids,
                token_ids,
                open_ids=self._think_open_ids,
                close_ids=self._think_close_ids,
                stop_ids=self._stop_thinking_ids,
                budget=request.sampling.thinking_budget,
            ),
            finish_reason=finish,
            weight_versions=spans or (VersionSpan(self.version, 0, len(token_ids)),),
            text=self.tokenizer.decode(token_ids, skip_special_tokens=False),
        )

    def close(self) -> None:
        self._engine.engine_core.shutdown()
        self._adapters.close()


def _sampled_logprobs(entries: Any, token_ids: Sequence[int]) -> tuple[float, ...]:
    """The sampled token's log-probability at each position, out of vLLM's flat container."""
    values = []
    for position, token in enumerate(token_ids):
        begin, end = entries.start_indices[position], entries.end_indices[position]
        for index in range(begin, end):
            if entries.token_ids[index] == token:
                values.append(float(entries.logprobs[index]))
                break
        else:
            raise RuntimeError(f"engine: no log-probability came back for sampled token {token} at position {position}")
    return tuple(values)
