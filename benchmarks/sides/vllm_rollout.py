"""Raw vLLM on the requests of a workload: `LLM.generate`, nothing of fourstage around it.

Settings: `plain` leaves out the seed and the log-probability of each token, without which nothing can be trained and a
run does not repeat; `compiled` lets vLLM compile the model; `as_installed` leaves its processes and threads to it.
"""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.sides.protocol import Recorder, settings, versions
from benchmarks.sides.rollout_requests import requests_of_step


def main() -> None:
    given, recorder = settings(), Recorder()
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"
    os.environ["VLLM_NO_USAGE_STATS"] = "1"
    if not given.get("as_installed"):
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    from vllm import LLM, SamplingParams

    folder, plain = Path(given["workload"]), given.get("plain", False)
    llm = LLM(
        model=str(folder / "model"),
        dtype=given["dtype"],
        max_model_len=640,
        max_num_seqs=256,
        max_num_batched_tokens=8192,
        enforce_eager=not given.get("compiled", False),
        enable_chunked_prefill=False,
        logprobs_mode="processed_logprobs",
        generation_config="vllm",
    )
    recorder.facts(versions=versions("vllm-cpu", "torch"))
    for step in range(given["num_steps"]):
        requests = requests_of_step(folder, step)
        params = [
            SamplingParams(
                temperature=1.0,
                max_tokens=request.sampling.max_tokens,
                ignore_eos=True,
                detokenize=False,
                seed=None if plain else request.seed,
                logprobs=None if plain else 0,
            )
            for request in requests
        ]
        prompts = [{"prompt_token_ids": list(request.prompt_token_ids)} for request in requests]
        recorder.begin()
        outputs = llm.generate(prompts, params, use_tqdm=False)
        recorder.step(completion_tokens=sum(len(output.outputs[0].token_ids) for output in outputs))


if __name__ == "__main__":
    main()
