"""The pool kills what hangs, tells failure from wrongness, and counts time from the start of a task."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from rewards.registry import load_user_task
from rewards.task import ScoreRequest
from rewards.verifier_pool import VerifierPool

USER_TASK = """
import os
from data.records import Score
from rewards.task import Task, TaskItem


def verify(request, parsed):
    if parsed.answer == "raise":
        raise RuntimeError("broken grader")
    if parsed.answer == "die":
        os._exit(3)
    if parsed.answer == "grow":
        return Score.of(float(len(bytearray(64 * 2**30)) > 0))
    return Score.of(float(parsed.answer == "good"))


TASK = Task(
    name="pool_probe", area="specialised", reward_type="rule", summary="s", hack="h", guard="g",
    generate=lambda rng, difficulty: TaskItem(({"role": "user", "content": "q"},), {}), max_difficulty=0,
    verify=verify, reference_keys=(), known_good=(), known_bad=(), in_worker=True,
)
"""


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("tasks") / "probe.py"
    file.write_text(USER_TASK)
    return load_user_task(file).name


@pytest.fixture(scope="module")
def pool() -> Iterator[VerifierPool]:
    with VerifierPool(num_workers=1, timeout_s=2.0) as pool:
        yield pool


def _math(answer: str, gold: str) -> ScoreRequest:
    return ScoreRequest("math", (), {"answer": gold}, f"\\boxed{{{answer}}}")


def _probe(answer: str) -> ScoreRequest:
    return ScoreRequest("pool_probe", (), {}, answer)


def test_no_process_starts_for_requests_that_are_decided_inline() -> None:
    with VerifierPool() as pool:
        scores = pool.score_all([_math("5", "5"), _math("6", "5"), ScoreRequest("arithmetic", (), {"answer": 3}, "3")])
        assert [score.reward for score in scores] == [1.0, 0.0, 1.0]
        assert pool.worker_pids() == ()


def test_a_hanging_answer_is_killed_in_time_and_the_worker_replaced(pool: VerifierPool) -> None:
    pool.score_all([_math("0.5", "\\frac{1}{2}")])  # a worker is up, so that its start is not measured
    before = pool.worker_pids()
    start = time.monotonic()
    (score,) = pool.score_all([_math("9^{9^{9^9}}", "2^{3^{4}}")])
    elapsed = time.monotonic() - start
    assert score.outcome == "error"
    assert "timed out after 2 s" in score.reason
    assert 2.0 <= elapsed < 4.0
    assert pool.score_all([_math("0.5", "\\frac{1}{2}")])[0].reward == 1.0
    assert len(pool.worker_pids()) == len(before) == 1
    assert pool.worker_pids() != before
    assert not psutil.pid_exists(before[0])


def test_waiting_in_the_queue_is_not_counted_as_time(pool: VerifierPool) -> None:
    # The hanging request in front makes each of the others wait longer than the timeout before it starts.
    requests = [_math("9^{9^{9^9}}", "2^{3^{4}}")]
    requests += [_math(f"{index}.5", f"\\frac{{{2 * index + 1}}}{{2}}") for index in range(1000)]
    scores = pool.score_all(requests)
    assert scores[0].outcome == "error"
    assert [score.reward for score in scores[1:]] == [1.0] * 1000


def test_an_exception_a_death_and_memory_exhaustion_are_errors_not_wrong_answers(
    pool: VerifierPool, probe: str
) -> None:
    scores = pool.score_all([_probe(text) for text in ("good", "raise", "die", "grow", "bad", "good")])
    assert [score.outcome for score in scores] == ["correct", "error", "error", "error", "incorrect", "correct"]
    assert "RuntimeError: broken grader" in scores[1].reason
    assert "exit code 3" in scores[2].reason
    assert "MemoryError" in scores[3].reason


def test_an_exception_in_an_inline_verifier_is_an_error() -> None:
    with VerifierPool() as pool:
        (score,) = pool.score_all([ScoreRequest("arithmetic", (), {"answer": "seven"}, "7")])
    assert score.outcome == "error"
    assert score.reward is None
    assert "is not an integer" in score.reason


def test_close_leaves_no_worker_and_the_pool_can_start_again(probe: str) -> None:
    pool = VerifierPool(num_workers=2, timeout_s=5.0)
    assert pool.score_all([_probe("good")])[0].reward == 1.0
    pids = pool.worker_pids()
    assert len(pids) == 2
    pool.close()
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert pool.score_all([_probe("bad")])[0].reward == 0.0
    pool.close()
    assert pool.worker_pids() == ()


def test_workers_that_cannot_start_stop_the_run() -> None:
    # A script read from standard input cannot be imported again by a spawned worker.
    program = (
        "from rewards.task import ScoreRequest\n"
        "from rewards.verifier_pool import VerifierPool\n"
        "request = ScoreRequest('math', (), {'answer': '\\\\frac{1}{2}'}, '\\\\boxed{0.5}')\n"
        "VerifierPool().score_all([request])\n"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable], input=program, env=os.environ | {"PYTHONPATH": root},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "RuntimeError: verifier workers cannot start" in done.stderr


@pytest.mark.parametrize("knobs", [{"num_workers": 0}, {"timeout_s": 0.0}])
def test_senseless_knobs_are_refused(knobs: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(knobs))):
        VerifierPool(**knobs)  # type: ignore[arg-type]


def test_workers_run_apart_from_this_process(pool: VerifierPool) -> None:
    pool.score_all([_math("0.5", "\\frac{1}{2}")])
    assert os.getpid() not in pool.worker_pids()
    assert Path(f"/proc/{pool.worker_pids()[0]}").exists()
