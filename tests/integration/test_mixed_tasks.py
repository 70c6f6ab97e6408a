"""General RL on all kinds of tasks in one batch: rules, a sandbox, an episode, a judge server, a preference model.

The recipe is `micro.yaml` with more tasks; the judge is a real HTTP server on loopback whose verdicts are scripted.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.integration.run_process import Command

pytestmark = [pytest.mark.engine, pytest.mark.integration]

RECIPE = Path(__file__).with_name("micro.yaml")
TASKS = ("tool_use", "chat", "code_from_spec", "open_qa", "mode_flags")
ROOM = ("rollout.engine.max_model_len=448", "base.model.max_positions=448")
CORPUS = [f"base.corpus.tasks.{task}.weight=3" for task in ("tool_use", "chat", "code_from_spec", "open_qa")]
QUIET = ("evaluation.stages=[]", "evaluation.budget_benchmarks=[]")


class JudgeServer:
    """Says that every response is right; remembers how often it was asked."""

    def __init__(self) -> None:
        self.num_asked = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                outer.num_asked += 1
                message = {"role": "assistant", "content": "It agrees.\nVERDICT: CORRECT"}
                body = json.dumps(
                    {
                        "id": "1", "object": "chat.completion", "created": 0, "model": "judge",
                        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                    }
                ).encode()  # fmt: skip
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: Any) -> None:
                del arguments

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(scope="module")
def server() -> Iterator[JudgeServer]:
    server = JudgeServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def run(server: JudgeServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Command]:
    """A base model that has seen the tasks, and two steps of general RL on all of them."""
    folder = tmp_path_factory.mktemp("mixed") / "run"
    shared = (RECIPE, f"run_dir={folder}", "--plain", "--json", *ROOM, *CORPUS, *QUIET)
    logs = folder.parent / "logs"
    base = Command("run", *shared, "--until", "base", "base.train.num_epochs=3", logs=logs).finish()
    (checkpoint,) = (folder / "stages").glob("base-*/checkpoint")
    tasks = [f"general_rl.prompts.tasks.{task}.weight=1" for task in TASKS]
    judged = (f"judge.base_url={server.address}", "judge.model=judge", "general_rl.prompts.tasks.open_qa.levels=[1]")
    few = (
        "general_rl.oversample=1", "general_rl.reasoning_replay=0", "general_rl.num_prompts=40",
        "general_rl.rl.num_steps=2", "general_rl.rl.prompts_per_step=20", "general_rl.rl.mode_gate=false",
        "embedded_preference.num_pairs=120", "embedded_preference.train.num_epochs=1", "verifiers.timeout_s=30",
    )  # fmt: skip
    command = Command(
        "run", *shared, "--only", "general_rl", "--start", checkpoint, *tasks, *judged, *few, logs=logs
    ).finish()
    del base
    return folder, command


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    (path,) = folder.glob(f"stages/general_rl-*/{name}")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_task_of_the_batch_is_reported_and_no_verification_failed(run: tuple[Path, Command]) -> None:
    folder, _ = run
    metrics = rows(folder, "metrics.jsonl")
    assert len(metrics) == 2
    for task in TASKS:
        for field in ("mean_reward", "pass_rate", "error_share", "reward_variance", "mean_length"):
            assert any(f"batch/task/{task}/{field}" in row for row in metrics), (task, field)
    assert sum(row["verifier_errors"] for row in metrics) == 0
    assert all(row["timing"]["score_s"] >= 0 for row in metrics)


def test_episodes_are_rolled_out_to_an_end_that_is_counted(run: tuple[Path, Command]) -> None:
    folder, _ = run
    metrics = rows(folder, "metrics.jsonl")
    assert any(row.get("episode_turns", 0) >= 1 for row in metrics)
    ends = {name for row in metrics for name in row if name.startswith("episodes/")}
    assert ends
    assert "episodes/environment error" not in ends


def test_the_embedded_preference_model_is_trained_once_and_its_rewards_are_graded(run: tuple[Path, Command]) -> None:
    folder, command = run
    (model,) = folder.glob("preference_model-*")
    assert (model / "preference_model.json").is_file()
    assert "preference model" in command.stderr
    manifest = json.loads((model / "preference_model.json").read_text())
    assert manifest["pairs"]["num_train"] + manifest["pairs"]["num_held_out"] == 120


def test_nothing_is_left_running(run: tuple[Path, Command]) -> None:
    _, command = run
    assert command.processes() == []
