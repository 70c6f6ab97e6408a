"""Memory of log-probabilities at long context: 32,768 tokens over a vocabulary of 151,936, forward and backward.

Each measurement is a process of its own, which first holds what any method holds (hidden states, the head's weight and
its gradient), then lets its peak begin again and runs both passes: of `head_loss`, which training takes when its loss
is a sum over tokens, or of `chunked_logprobs` with entropy. What the peak rises by is the method's. All logits at once
would be 18.5 GiB in float32, before the backward pass.

    python -m benchmarks.long_context                          # hidden size 64
    python -m benchmarks.long_context --hidden 1024 --method chunked_logprobs
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

LIMIT_BYTES = 2 * 2**30


def measure(num_tokens: int, vocab: int, hidden: int, chunk_bytes: int, method: str) -> dict[str, float]:
    """Peak above the baseline in bytes and the seconds of forward and backward, in this process."""
    import torch

    from data.process_memory import peak_memory_bytes, reset_peak_memory
    from learner.head_loss import head_loss
    from learner.logprobs import chunked_logprobs

    def loss_of(states: torch.Tensor, targets: torch.Tensor, chunk_bytes: int) -> torch.Tensor:
        if method == "head_loss":
            return head_loss(states, weight, targets, lambda logp, h, _: logp.sum() + h.sum(), chunk_bytes=chunk_bytes)
        logprobs, entropy = chunked_logprobs(states, weight, targets, chunk_bytes=chunk_bytes)
        assert entropy is not None
        return logprobs.sum() + entropy.sum()

    generator = torch.Generator().manual_seed(0)
    states = torch.randn(num_tokens, hidden, generator=generator).requires_grad_()
    weight = torch.randn(vocab, hidden, generator=generator).mul_(hidden**-0.5).requires_grad_()
    weight.grad = torch.ones_like(weight)
    targets = torch.randint(vocab, (num_tokens,), generator=generator)
    loss_of(states[:64], targets[:64], 2**20).backward()  # libraries take their buffers
    states.grad = None
    if not reset_peak_memory():
        raise SystemExit("this system cannot reset a process's peak of memory; run it on Linux")
    baseline = peak_memory_bytes()
    began = time.perf_counter()
    loss = loss_of(states, targets, chunk_bytes)
    forward_s = time.perf_counter() - began
    loss.backward()
    return {
        "peak_bytes": peak_memory_bytes() - baseline,
        "baseline_bytes": baseline,
        "forward_s": forward_s,
        "backward_s": time.perf_counter() - began - forward_s,
    }


def measured_apart(num_tokens: int, vocab: int, hidden: int, chunk_bytes: int, method: str) -> dict[str, float]:
    """The same in a fresh process."""
    arguments = [str(value) for value in (num_tokens, vocab, hidden, chunk_bytes, method)]
    code = (
        "import json, sys; from benchmarks.long_context import measure; "
        "print(json.dumps(measure(*map(int, sys.argv[1:5]), sys.argv[5])))"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=32_768)
    parser.add_argument("--vocab", type=int, default=151_936)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--chunk-mib", type=int, default=64)
    parser.add_argument("--method", choices=("head_loss", "chunked_logprobs"), default="head_loss")
    options = parser.parse_args()
    found = measured_apart(options.tokens, options.vocab, options.hidden, options.chunk_mib * 2**20, options.method)
    print(
        f"{options.method}: {options.tokens:,} tokens x {options.vocab:,} words, hidden {options.hidden}: "
        f"{found['peak_bytes'] / 2**30:.2f} GiB above a baseline of {found['baseline_bytes'] / 2**30:.2f} GiB, "
        f"forward {found['forward_s']:.0f} s, backward {found['backward_s']:.0f} s"
    )
    sys.exit(0 if found["peak_bytes"] <= LIMIT_BYTES else 1)


if __name__ == "__main__":
    main()
