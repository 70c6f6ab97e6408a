"""The rows that the learner comparisons train on: prompt and completion of every sequence of a workload, random ids."""

from __future__ import annotations

import random
from pathlib import Path

from benchmarks.workloads import read_workload


def training_rows(folder: Path) -> tuple[list[list[int]], list[int]]:
    """Rows of ids, and how many ids at the start of each are the prompt's."""
    facts, prompts, _ = read_workload(folder)
    rng = random.Random("learner rows")
    rows, prompt_lengths = [], []
    for prompt in prompts:
        for length in prompt["lengths"]:
            rows.append([*prompt["token_ids"], *(rng.randrange(facts["vocab_size"]) for _ in range(length))])
            prompt_lengths.append(len(prompt["token_ids"]))
    return rows, prompt_lengths


def packed_rows(rows: list[list[int]]) -> list[list[int]]:
    """The same tokens in as many rows, all of one length: what no padding and no uneven row could ever be.

    At most one token a row is left over and dropped.
    """
    flat = [token for row in rows for token in row]
    width = len(flat) // len(rows)
    return [flat[index * width : (index + 1) * width] for index in range(len(rows))]
