"""What clients see of a server whose weights change under them: failures, mixed versions, pauses and latencies.

    python -m benchmarks.serving_load [CHECKPOINT_A CHECKPOINT_B] [--clients 20] [--seconds 120] [KEY=VALUE ...]

A registry is made of the two checkpoints (without arguments: of two random Qwen3 of 3.2 million parameters in float32),
`fourstage serve` is started on an alias, and clients of the `openai` package ask it one question after the other, every
second one as a stream. After a third of the time `fourstage promote` brings B, after two thirds `fourstage rollback`
brings A back; the gates that need an engine are off. The key=value arguments are settings of the server.

A request has failed when the client raises anything. Versions are mixed when the chunks of one stream name more than
one, or when an answer is not, word for word, what the version that it names answers when it is asked alone before the
load begins (greedy; `--no-compare` leaves this out, for precisions in which the size of a batch changes roundings).
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import openai

from benchmarks.machine import describe_machine
from benchmarks.tables import markdown_table
from data.records import UserError
from data.tokenizer import contract, train_tokenizer
from learner.checkpoint import Manifest, write_checkpoint
from learner.model_folder import export_model
from serving.live import SwapResult
from serving.registry import Registry
from tests.integration.run_process import Command
from tests.integration.serving_process import ServerProcess

ALIAS = "production"
GATES = "{name: load, parity: null, benchmarks: null, think_follow: null, load: null}\n"
_NUMBERS = ((2, 3, 5), (7, 1, 4), (9, 8, 6), (3, 3, 3), (5, 2, 8))
PROMPTS = tuple(f"{a} plus {b} and {b} times {c} is" for a, b, c in _NUMBERS)


@dataclass(frozen=True, slots=True)
class Answer:
    """One request: how long it took to its first token and to its end, and what came of it."""

    first_s: float
    total_s: float
    versions: tuple[str, ...]
    prompt: str
    text: str
    streamed: bool
    failed: str | None = None


@dataclass
class Load:
    """What the clients saw, and what the server said of its swaps."""

    answers: list[Answer] = field(default_factory=list)
    swaps: list[SwapResult] = field(default_factory=list)


def mixed(answers: Sequence[Answer], expected: dict[str, dict[str, str]] | None) -> list[Answer]:
    """The answers that do not come from one version alone."""
    return [
        one
        for one in answers
        if one.failed is None
        and (
            len(set(one.versions)) != 1
            or (expected is not None and expected.get(one.versions[0], {}).get(one.prompt) != one.text)
        )
    ]


def figures(load: Load, expected: dict[str, dict[str, str]] | None) -> list[tuple[str, str]]:
    """Name and value of what the table shows."""
    whole = [one for one in load.answers if one.failed is None]
    rows = [
        ("requests", f"{len(load.answers):,}"),
        ("failed", str(len(load.answers) - len(whole))),
        ("mixed versions", str(len(mixed(load.answers, expected)))),
        ("versions that answered", str(len({one.versions[0] for one in whole if one.versions}))),
        ("pause of each swap, s", ", ".join(f"{swap.pause_s:.3f}" for swap in load.swaps)),
    ]
    times = {
        "first token": [one.first_s for one in whole if one.streamed],
        "whole answer": [one.total_s for one in whole],
    }
    for name, values in times.items():
        quantiles = np.quantile(values, [0.5, 0.9, 0.99, 1.0]) if values else [float("nan")] * 4
        rows.append((f"{name}, ms (p50, p90, p99, max)", ", ".join(f"{1000 * value:.0f}" for value in quantiles)))
    return rows


async def ask(client: openai.AsyncOpenAI, prompt: str, *, stream: bool, max_tokens: int) -> Answer:
    """One request; whatever goes wrong is part of the answer."""
    began = time.monotonic()
    options: dict[str, Any] = {"model": ALIAS, "prompt": prompt, "temperature": 0, "max_tokens": max_tokens}
    first_s, versions, text = 0.0, [], ""
    try:
        if stream:
            async for chunk in await client.completions.create(**options, stream=True):
                first_s = first_s or time.monotonic() - began
                versions.append(str(chunk.system_fingerprint))
                text += chunk.choices[0].text
        else:
            answer = await client.completions.create(**options)
            first_s = time.monotonic() - began
            versions, text = [str(answer.system_fingerprint)], answer.choices[0].text
    except Exception as error:  # a failure of any kind is what is counted here
        return Answer(first_s, time.monotonic() - began, (), prompt, text, stream, f"{type(error).__name__}: {error}")
    return Answer(first_s, time.monotonic() - began, tuple(versions), prompt, text, stream)


async def put_load(
    server: ServerProcess, versions: Sequence[str], scratch: Path, parsed: argparse.Namespace
) -> tuple[Load, dict[str, dict[str, str]]]:
    """Answers of each version alone, then the load with a promotion of the second version and a rollback."""
    load, expected = Load(), {}
    async with server.async_client() as client:
        for name in (versions[1], versions[0]):
            await asyncio.to_thread(move, server, name)
            alone = [await ask(client, prompt, stream=False, max_tokens=parsed.tokens) for prompt in PROMPTS]
            expected[name] = {one.prompt: one.text for one in alone}
        ends = time.monotonic() + parsed.seconds

        async def goes_on(number: int) -> None:
            while time.monotonic() < ends:
                prompt = PROMPTS[number % len(PROMPTS)]
                load.answers.append(await ask(client, prompt, stream=bool(number % 2), max_tokens=parsed.tokens))
                number += 1

        tasks = [asyncio.create_task(goes_on(number)) for number in range(parsed.clients)]
        for command in (promotion(server, versions[1], scratch), rollback(server)):
            await asyncio.sleep(parsed.seconds / 3)
            load.swaps.append(await asyncio.to_thread(swap_by, command, scratch / "logs"))
        await asyncio.gather(*tasks)
    return load, expected


def move(server: ServerProcess, version: str) -> None:
    """Point the alias at a version and wait until the server serves it; UserError when it does not."""
    now = server.registry.alias(ALIAS)
    assert now is not None
    if now.version != version:
        result = server.move_alias(version)
        if result.failed is not None:
            raise UserError(f"swap: {result.failed}")


def promotion(server: ServerProcess, version: str, folder: Path) -> list[str]:
    """The promotion of a version as a command; what gates find of these checkpoints is not what is measured here."""
    gates = folder / "gates.yaml"
    gates.write_text(GATES)
    place = str(server.registry.place)
    return ["promote", version, "--to", ALIAS, "--gates", str(gates), "--registry", place, "--force", "load", "--json"]


def rollback(server: ServerProcess) -> list[str]:
    """The rollback as a command."""
    return ["rollback", ALIAS, "--registry", str(server.registry.place), "--json"]


def swap_by(command: Sequence[str], logs: Path) -> SwapResult:
    """Run `fourstage promote` or `rollback` as a process of its own; what the one server said of it."""
    document = Command(*command, logs=logs).finish(timeout_s=600).document
    (swap,) = document.get("move", document)["swaps"]
    return SwapResult(**swap)


def random_checkpoint(folder: Path, seed: int) -> Path:
    """A random Qwen3 of 3.2 million parameters as a stage would write it."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = train_tokenizer(list(PROMPTS), vocab_size=320)
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer), hidden_size=256, intermediate_size=768, num_hidden_layers=4,
            num_attention_heads=4, num_key_value_heads=2, head_dim=64, max_position_embeddings=1024,
            initializer_range=0.1, tie_word_embeddings=False,
            pad_token_id=None, bos_token_id=None, eos_token_id=None,
        )
    )  # fmt: skip
    manifest = Manifest(
        stage="random", key=str(seed), parent=None, config_hash="", data_hash="", contract=contract(tokenizer),
        rewards=(), seeds={"init": seed}, code_commit="", packages={}, metrics={}, cost={},
    )  # fmt: skip

    def write(partial: Path) -> None:
        for path in export_model(model, tokenizer, partial / "exported").iterdir():
            path.rename(partial / path.name)
        (partial / "exported").rmdir()

    write_checkpoint(folder, manifest, write)
    return folder


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="CHECKPOINT | KEY=VALUE")
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--no-compare", action="store_true")
    parsed = parser.parse_args(arguments)
    settings = [word for word in parsed.words if "=" in word]
    given = [Path(word) for word in parsed.words if "=" not in word]
    if len(given) not in (0, 2):
        raise UserError(f"CHECKPOINT: {len(given)} given; give two, or none for two random ones")
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        checkpoints = given or [random_checkpoint(root / f"c{seed}", seed) for seed in range(2)]
        registry = Registry(root / "models")
        versions = [registry.add(checkpoint).name for checkpoint in checkpoints]
        registry.point(ALIAS, versions[0], expected_generation=0, reason="load")
        server = ServerProcess(registry, ALIAS, *settings, logs=root / "logs")
        try:
            load, expected = asyncio.run(put_load(server.wait(600), versions, root, parsed))
            server.stop()
        finally:
            server.command.kill_if_running()
        rows = figures(load, None if parsed.no_compare else expected)
    print(f"{describe_machine()}\n{parsed.clients} clients, {parsed.seconds:g} s, {parsed.tokens} tokens an answer\n")
    print(markdown_table(["figure", "value"], rows))
    for one in [one for one in load.answers if one.failed][:5]:
        print(f"failed: {one.failed}")


if __name__ == "__main__":
    main()
