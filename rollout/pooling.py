"""The preference model in vLLM's pooling runner: conversations in, raw scores out.

Place in the flow: rules leave an answer undecided -> `PoolingEngine.raw_scores` -> length control
(`rewards.preference`). It runs in a process of its own (`rollout.pooling_workers`), beside the engine that samples.

What vLLM 0.32 needs, found by trying it on a CPU: `runner="pooling"` alone takes a folder of the architecture
Qwen3ForSequenceClassification or LlamaForSequenceClassification as it is, `convert` and `hf_overrides` stay at their
defaults; the pooling type resolves to LAST, the last token of the prompt; the one label has to be asked for with
`PoolingParams(task="classify", use_activation=False)`, otherwise a sigmoid is applied (the pooler's default). There is
no task named "reward" for these architectures. Scores then agree with transformers to 1e-5 in float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.files import read_json
from data.model_folder import require_model_folder
from data.preference import PREFERENCE_MANIFEST, preference_token_ids
from data.quick_imports import quick_imports
from data.records import Message, UserError
from data.tokenizer import require_chat_tokens
from rollout.config import PoolingConfig, kv_cache_bytes
from rollout.vllm_environment import prepare_environment

ARCHITECTURES = ("Qwen3ForSequenceClassification", "LlamaForSequenceClassification")


class PoolingEngine:
    """A preference model in a vLLM engine in this process (`rewards.preference.PreferenceModel`)."""

    def __init__(self, model_folder: str | Path, config: PoolingConfig) -> None:
        config.validate()
        self.max_length = _check_folder(model_folder)
        prepare_environment()
        with quick_imports("vllm"):
            import torch
            from transformers import AutoTokenizer
            from vllm import EngineArgs, PoolingParams
            from vllm.v1.engine.llm_engine import LLMEngine

        self.config = config
        self.tokenizer = AutoTokenizer.from_pretrained(str(model_folder))
        require_chat_tokens(self.tokenizer, str(model_folder))
        self._params = PoolingParams(task="classify", use_activation=False)
        self._serial = 0
        self._engine = LLMEngine.from_engine_args(
            EngineArgs(
                model=str(model_folder),
                runner="pooling",
                dtype=config.dtype,
                max_model_len=self.max_length,
                max_num_seqs=config.max_num_seqs,
                max_num_batched_tokens=max(config.max_num_batched_tokens, self.max_length),
                gpu_memory_utilization=config.gpu_memory_utilization,
                kv_cache_memory_bytes=kv_cache_bytes(config.kv_cache_gib, on_cpu=not torch.cuda.is_available()),
                enforce_eager=True,
                # Answers of one group share their prompt, but a cached prefix would make a score hang on what was
                # scored before it, by rounding; the model is small and reads each conversation once.
                enable_prefix_caching=False,
                enable_chunked_prefill=False,
                disable_log_stats=True,
                seed=0,
            )
        )

    def raw_scores(self, conversations: Sequence[Sequence[Message]]) -> list[float]:
        """One score for each conversation that ends with an assistant turn, in order; NaN where the model gave none.

        A conversation beyond the length that the model was trained with loses its beginning, as it did in training.
        """
        first = self._serial
        for messages in conversations:
            ids = preference_token_ids(self.tokenizer, messages, self.max_length)
            self._engine.add_request(str(self._serial), {"prompt_token_ids": list(ids)}, self._params)
            self._serial += 1
        scores = [math.nan] * len(conversations)
        while self._engine.has_unfinished_requests():
            for output in self._engine.step():
                if output.finished:
                    scores[int(output.request_id) - first] = _score(output.outputs)
        return scores

    def close(self) -> None:
        self._engine.engine_core.shutdown()


def _score(output: Any) -> float:
    (value,) = output.data.float().flatten().tolist()
    return float(value)


def _check_folder(model_folder: str | Path) -> int:
    """The length in tokens that the model was trained with; UserError unless the folder is a whole preference model."""
    field = "preference.folder"
    require_model_folder(model_folder, field=field)
    config = read_json(Path(model_folder) / "config.json")
    names = config.get("architectures") or []
    path = Path(model_folder) / PREFERENCE_MANIFEST
    if len(names) != 1 or names[0] not in ARCHITECTURES or not path.is_file():
        raise UserError(
            f"{field}: {model_folder} is no preference model (architectures={names}, {PREFERENCE_MANIFEST} "
            f"{'found' if path.is_file() else 'missing'}); give a folder that `fourstage preference-model` wrote"
        )
    max_length = read_json(path).get("max_length")
    if not isinstance(max_length, int) or max_length < 1:
        raise UserError(f"{field}: {path} has max_length={max_length!r}; train the preference model again")
    return max_length
