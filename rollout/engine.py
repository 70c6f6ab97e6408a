"""The one owner of vLLM: a step loop that takes requests and weight updates between two steps.

The engine runs inside this process (no separate engine process), so that the caller decides when a step happens, a
weight update falls between two steps with requests in flight, and the same seeds repeat bit for bit. Sampled ids and
log-probabilities leave it as they came; nothing is tokenised a second time.

Thinking budgets (report §4.3 and Qwen's documentation of the protocol) are the engine's own: `ReasoningConfig` holds
the stop-thinking sentence and `SamplingParams.thinking_token_budget` the number of tokens. Tokens that the engine
forced are marked in `Completion.forced`, so that no loss falls on them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from data.chat import STOP_THINKING, THINK_CLOSE, THINK_OPEN
from data.model_folder import require_model_folder, require_positions
from data.records import Completion, FinishReason, UserError, VersionSpan
from data.tokenizer import end_token_ids, require_chat_tokens
from rollout.config import EngineConfig
from rollout.policy import GenerationRequest, require_distinct


def _prepare_environment(config: EngineConfig) -> None:
    """Settings that vLLM reads from the environment when it is imported."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(config.kv_cache_gib)
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")


class Engine:
    """A vLLM engine in this process with a step loop of its own.

    `submit` and `step` are the loop; `generate` runs it to the end of a batch. `update_weights` may be called between
    two steps: requests in flight go on with the new weights and say so in `Completion.weight_versions`.
    """

    def __init__(self, model_folder: str | Path, config: EngineConfig, *, version: int = 0) -> None:
        config.validate()
        require_model_folder(model_folder)
        _prepare_environment(config)
        from transformers import AutoTokenizer
        from vllm import EngineArgs, SamplingParams
        from vllm.config import ReasoningConfig
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
                tensor_parallel_size=config.tensor_parallel_size,
                enforce_eager=config.enforce_eager,
                enable_prefix_caching=config.prefix_caching,
                # A seeded request whose prompt is cut over two steps has its generator wound back by an offset, which
                # a CPU generator does not have (vLLM 0.32: "CPU Generator does not use offset"): whole prompts there.
                enable_chunked_prefill=torch.cuda.is_available(),
                # Log-probabilities under what was sampled from: temperature applied.
                logprobs_mode="processed_logprobs",
                generation_config="vllm",  # sampling comes from the request alone, never from the model folder
                reasoning_config=ReasoningConfig(
                    reasoning_parser="qwen3", reasoning_start_str=THINK_OPEN, reasoning_end_str=STOP_THINKING
                ),
                disable_log_stats=True,
                seed=0,
            )
        )
        encode = self.tokenizer.encode
        self._think_open_ids = encode(THINK_OPEN, add_special_tokens=False)
        self._think_close_ids = encode(THINK_CLOSE, add_special_tokens=False)
        self._stop_thinking_ids = encode(STOP_THINKING, add_special_tokens=False)
        self._end_ids = list(end_token_ids(self.tokenizer))
        self._pending: dict[str, GenerationRequest] = {}
        self._serial = 0
        self.num_generated_tokens = 0
        self.version = version
        self._set_version(version)
        self._collective_rpc(_recognise_natural_end, self._stop_thinking_ids, self._think_close_ids)

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
        self._pending[request_id] = request
        self._engine.add_request(
            request_id,
            {"prompt_token_ids": list(request.prompt_token_ids)},
            self._sampling_params(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                max_tokens=min(sampling.max_tokens, room),
                seed=request.seed,
                logprobs=0 if request.want_logprobs else None,
                flat_logprobs=request.want_logprobs,
                stop_token_ids=self._end_ids,
                thinking_token_budget=sampling.thinking_budget,
                detokenize=False,
                output_kind=self._final_only,
            ),
        )

    def step(self) -> list[Completion]:
        """One engine step: every running request gets at most one token; returns the completions that finished."""
        finished = []
        for output in self._engine.step():
            if output.finished:
                finished.append(self._completion(self._pending.pop(output.request_id), output.outputs[0]))
        return finished

    @property
    def num_pending(self) -> int:
        return len(self._pending)

    def generate(
        self,
        requests: Sequence[GenerationRequest],
        *,
        on_progress: Callable[[int, int], None] | None = None,
        on_finished: Callable[[Sequence[Completion]], None] | None = None,
    ) -> list[Completion]:
        """Run `requests` to their end; completions come in the order of the requests."""
        if self._pending:
            raise RuntimeError(
                f"engine: {len(self._pending)} requests are still in flight; finish them before generate()"
            )
        require_distinct(requests)
        self.reset_prefix_cache()  # the same batch gives the same bits whatever ran before it
        for request in requests:
            self.submit(request)
        done: dict[tuple[str, int], Completion] = {}
        tokens = 0
        while self._pending:
            finished = self.step()
            for completion in finished:
                done[completion.prompt_uid, completion.sample_index] = completion
                tokens += len(completion.token_ids)
            if finished and on_finished:
                on_finished(finished)
            if finished and on_progress:
                on_progress(len(done), tokens)
        self.num_generated_tokens += tokens
        return [done[request.prompt_uid, request.sample_index] for request in requests]

    def score(self, rows: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log-probability in nats at temperature 1 of every token of `rows` given those before it; the first's is 0.

        Runs as prompt log-probabilities (to which the engine never applies a temperature), so it uses the same kernels
        as generation does. The last token comes as the next one after the others: a row may fill the whole context,
        which leaves a prompt of that length no room for the token that the engine insists on sampling.
        """
        if self._pending:
            raise RuntimeError(f"engine: {len(self._pending)} requests are still in flight; finish them before score()")
        self.reset_prefix_cache()
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
            self._engine.add_request(request_id, {"prompt_token_ids": list(row[:-1])}, params)
        while running:
            for output in self._engine.step():
                if output.finished:
                    index = running.pop(output.request_id)
                    entries = [*output.prompt_logprobs, output.outputs[0].logprobs[0]]
                    scored[index][1:] = [
                        entry[token].logprob for entry, token in zip(entries[1:], rows[index][1:], strict=True)
                    ]
        self.reset_prefix_cache()
        return scored

    # ---- weights

    def update_weights(self, weights: Mapping[str, torch.Tensor], *, version: int) -> None:
        """Load `weights` (checkpoint names, `lm_head.weight` included) between two steps and name them `version`.

        The prefix cache is emptied: keys and values of the old weights must not serve new requests. Requests in flight
        keep theirs.
        """
        from rollout.weight_transfer import load_into_worker

        self._collective_rpc(load_into_worker, dict(weights))
        self.reset_prefix_cache()
        self._set_version(version)

    def differing_tensors(self, weights: Mapping[str, torch.Tensor], *, tolerance: float = 1e-4) -> list[str]:
        """Names of the tensors with which the engine computes something else than `weights` say."""
        from rollout.weight_transfer import differing_tensors

        return self._collective_rpc(differing_tensors, dict(weights), tolerance)[0]

    def reset_prefix_cache(self) -> None:
        if self.config.prefix_caching and not self._engine.reset_prefix_cache() and not self._pending:
            raise RuntimeError(
                "engine: the prefix cache could not be emptied; completions would mix two versions of weights"
            )

    def _set_version(self, version: int) -> None:
        self.version = version
        self._engine.set_weight_version(str(version))

    def _collective_rpc(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        return self._engine.collective_rpc(function, args=args)

    # ---- results

    def _completion(self, request: GenerationRequest, output: Any) -> Completion:
        token_ids = tuple(output.token_ids)
        logprobs = _sampled_logprobs(output.logprobs, token_ids) if request.want_logprobs else (0.0,) * len(token_ids)
        finish: FinishReason = output.finish_reason if output.finish_reason in ("stop", "length") else "abort"
        spans = tuple(VersionSpan(int(span.version), span.start, span.end) for span in output.weight_versions or ())
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


def forced_tokens(
    prompt_ids: Sequence[int],
    token_ids: Sequence[int],
    *,
    open_ids: Sequence[int],
    close_ids: Sequence[int],
    stop_ids: Sequence[int],
    budget: int | None,
) -> tuple[bool, ...]:
    """Which of `token_ids` the thinking budget wrote: the stop-thinking ids right after `budget` tokens of thinking.

    The thinking may have been opened in the prompt, whose thinking tokens count too. A policy that opens a second block
    is cut off in that one as well. A stop sentence that the policy wrote by itself before the budget ran out is not
    forced. At the end of a completion that ran out of room the ids may be cut short.
    """
    forced = [False] * len(token_ids)
    if budget is None:
        return tuple(forced)
    everything, first = [*prompt_ids, *token_ids], len(prompt_ids)
    starts = [start for start in _find_all(everything, open_ids) if start >= first]
    opened_in_prompt = _rfind(prompt_ids, open_ids)
    if opened_in_prompt > _rfind(prompt_ids, close_ids):
        starts.append(opened_in_prompt)
    for start in starts:
        begin = max(start + len(open_ids) + budget, first)
        written = everything[begin : begin + len(stop_ids)]
        if not written or written != list(stop_ids[: len(written)]):
            continue
        cut_short = len(written) < len(stop_ids)
        if cut_short and _find_all(everything[start:begin], close_ids):
            continue  # the thinking was over: the first ids of the sentence stand in the answer by chance
        for position in range(begin, begin + len(written)):
            forced[position - first] = True
    return tuple(forced)


def _find_all(tokens: Sequence[int], wanted: Sequence[int]) -> list[int]:
    width = len(wanted)
    return [i for i in range(len(tokens) - width + 1) if list(tokens[i : i + width]) == list(wanted)]


def _rfind(tokens: Sequence[int], wanted: Sequence[int]) -> int:
    return max(_find_all(tokens, wanted), default=-1)


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


def _recognise_natural_end(worker: Any, forced_ids: list[int], natural_ids: list[int]) -> None:
    """Let the engine's first-generation model runner see a `</think>` that the policy wrote by itself.

    In vLLM 0.32 that runner (the only one on a CPU) looks for the whole forced string as the end of thinking. With a
    sentence before the closing tag it misses the natural end, goes on counting through the answer and forces the
    sentence into it. It also keeps the first closing tag that it sees: one out of place, before the block, would hide
    the block's own. The second-generation runner has a field of its own for the natural end and is left alone.
    """
    batch = getattr(worker.model_runner, "input_batch", None)
    holder = getattr(batch, "thinking_budget_state_holder", None)
    if holder is None:
        return
    search, update = holder._find_last_sequence_index, holder._update_think_state

    def find(target: list[int], wanted: list[int]) -> int:
        return search(target, natural_ids if wanted == forced_ids else wanted)

    def update_without_stray_end(state: dict[str, Any]) -> None:
        update(state)
        opened, closed = state["start_thinking"], state["end_thinking"]
        if not state["continue_thinking"] and (opened < 0 or closed < opened):
            state["end_thinking"] = -1

    holder._find_last_sequence_index = find
    holder._update_think_state = update_without_stray_end
