"""Content keys of measurements: what decides a number and nothing else, so that a cache is never right by luck.

A measurement is a function of the checkpoint's files, of the requests (prompts as token ids, sampling, seeds), of what
is verified (references, tools, judge) and of the code and packages that sample and score. Its key hashes all of these,
and no path, no time, no order of benchmarks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from configs.load import config_hash, to_dict
from evals.measurement import Job

ROOT = Path(__file__).resolve().parents[1]
CODE = (
    "data", "rewards", "rollout", "evals/benchmarks", "evals/evaluate.py", "evals/generated.py",
    "evals/measurement.py", "evals/part_scores.py",
)  # fmt: skip
"""Sources that decide what is asked, sampled and scored; tables and statistics are made anew from what was measured."""

_SUFFIXES = (".py", ".jinja")


def files_key(hashes: Mapping[str, str]) -> str:
    """One key for the files of a checkpoint, from the SHA-256 of each by its name within the folder."""
    return config_hash(dict(hashes))


def code_key(root: Path = ROOT, parts: Iterable[str] = CODE) -> str:
    """Hash of the sources below `root` in the files and folders `parts`, by name and content."""
    digest = hashlib.sha256()
    for part in sorted(parts):
        place = root / part
        for path in sorted(place.rglob("*") if place.is_dir() else [place]):
            if path.suffix in _SUFFIXES:
                content = path.read_bytes()
                digest.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode())
                digest.update(content)
    return digest.hexdigest()


def job_key(job: Job, *, checkpoint: str, setting: Mapping[str, Any]) -> str:
    """The key of a job's measurement; `checkpoint` is its `files_key`, `setting` what decides beside the requests."""
    return config_hash(
        {
            "checkpoint": checkpoint,
            "setting": dict(setting),
            "job": [job.benchmark, job.mode, job.seed, job.budget],
            "prompts": [
                [p.uid, p.task, p.domain, p.enable_thinking, config_hash([p.reference]), p.messages, p.tools]
                for p in job.prompts  # a reference may be megabytes of tests: hashed one by one
            ],
            "requests": [
                [r.prompt_uid, r.sample_index, r.seed, _digest(r.prompt_token_ids), to_dict(r.sampling)]
                for r in job.requests
            ],
        }
    )


def _digest(token_ids: Sequence[int]) -> str:
    """Long contexts come as hashes, which is quicker than to walk through their numbers."""
    return hashlib.sha256(",".join(map(str, token_ids)).encode()).hexdigest()


def job_name(job: Job, key: str) -> str:
    """The file name of a job's measurement: what it is for people, and its key."""
    plain = "".join(letter if letter.isalnum() or letter in "_." else "_" for letter in job.benchmark)
    budget = "" if job.budget is None else f"-budget_{job.budget}"
    return f"{plain}-{job.mode}{budget}-seed_{job.seed}-{key[:12]}.json"
