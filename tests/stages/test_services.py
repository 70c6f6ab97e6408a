"""What a stage works with: the mode gate, failed verifiers, the check after a weight sync, and lazy starting."""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import save_file

from configs.load import load_config
from data.records import Prompt, Score, UserError
from stages.run_config import RunConfig
from stages.services import Services, SyncError, _await_end, _with_descendants, checkpoint_weights, gate_mode
from tests.stages.stage_fakes import completion, prompts_of, quiet_progress

MICRO = Path(__file__).resolve().parents[1] / "integration" / "micro.yaml"

TEXTS = {
    "none": "4",
    "empty": "<think>\n\n</think>\n\n4",
    "closed": "<think>\n2+2=4\n</think>\n\n4",
    "unclosed": "<think>\n2+2=4",
    "malformed": "<think>\na\n</think>\n\n<think>\nb\n</think>\n\n4",
}
"""A completion for each kind of think block."""


def question(flag: str = "", enable_thinking: bool | None = None) -> Prompt:
    (prompt,) = prompts_of("math", 1)
    content = f"{prompt.messages[-1]['content']}{flag}"
    return dataclasses.replace(
        prompt, messages=({"role": "user", "content": content},), enable_thinking=enable_thinking
    )


# ---------------------------------------------------------------------------------------------- the mode gate


@pytest.mark.parametrize(
    ("prompt", "obeyed"),
    [
        (question(), {"closed"}),
        (question(" /think"), {"closed"}),
        (question(" /think", enable_thinking=True), {"closed"}),
        # Under the soft switch the empty block is part of the format; the hard switch has put it into the prompt.
        (question(" /no_think"), {"empty"}),
        (question(" /no_think", enable_thinking=True), {"empty"}),
        (question(enable_thinking=False), {"none"}),
        (question(" /think", enable_thinking=False), {"none"}),  # the hard switch is stronger than a flag
    ],
)
def test_only_the_block_that_the_mode_asks_for_keeps_its_reward(prompt: Prompt, obeyed: set[str]) -> None:
    kept = {
        block for block, text in TEXTS.items() if gate_mode(prompt, completion(prompt, text), Score.correct()).reward
    }
    assert kept == obeyed


def test_the_gate_says_what_it_saw_and_lowers_no_score_to_an_error() -> None:
    prompt = question(" /no_think")
    gated = gate_mode(prompt, completion(prompt, TEXTS["closed"]), Score.of(0.5))
    assert gated == Score.incorrect("mode: asked for non_thinking, the think block is closed")
    obedient = gate_mode(prompt, completion(prompt, TEXTS["empty"]), Score.of(0.5, "half"))
    assert obedient == Score.of(0.5, "half")
    failed = Score.error("timed out")
    assert gate_mode(prompt, completion(prompt, TEXTS["closed"]), failed) == failed


# ---------------------------------------------------------------------------------------------- services without Ray


@pytest.fixture
def services(tmp_path: Path) -> Any:
    config = load_config(RunConfig, [MICRO], ["verifiers.max_error_share=0.25"])
    services = Services(config, tmp_path, quiet_progress()[0])
    yield services
    services.close()


def test_nothing_is_started_before_it_is_needed(services: Services) -> None:
    assert services.verifiers.worker_pids() == ()
    assert not services._ray_started
    services.close()
    services.close()


def test_scores_come_in_the_order_of_the_completions(services: Services) -> None:
    prompts = prompts_of("arithmetic", 3)
    completions = [
        completion(prompt, f"<think>\nx\n</think>\n\n\\boxed{{{prompt.reference['answer'] + wrong}}}", index=wrong)
        for wrong in (1, 0)
        for prompt in prompts
    ]
    assert [score.reward for score in services.score(prompts, completions)] == [0.0] * 3 + [1.0] * 3
    assert [score.reward for score in services.score(prompts, completions, mode_gate=True)] == [0.0] * 3 + [1.0] * 3
    bare = [completion(prompt, str(prompt.reference["answer"])) for prompt in prompts]
    assert [score.reward for score in services.score(prompts, bare)] == [1.0] * 3
    assert [score.reward for score in services.score(prompts, bare, mode_gate=True)] == [0.0] * 3


def test_failed_verifiers_past_the_set_share_stop_the_run_with_examples(services: Services) -> None:
    prompts = prompts_of("arithmetic", 8)
    broken = [
        dataclasses.replace(prompt, reference={"answer": "twelve"}) if index < 2 else prompt
        for index, prompt in enumerate(prompts)
    ]
    completions = [completion(prompt, "12") for prompt in prompts]
    scores = services.score(broken, completions)  # 2 of 8 are exactly the share that is allowed
    assert [score.outcome for score in scores[:2]] == ["error", "error"]
    assert [score.reward for score in scores[:2]] == [None, None]
    broken[2] = dataclasses.replace(broken[2], reference={"answer": "ten"})
    with pytest.raises(UserError) as caught:
        services.score(broken, completions)
    message = str(caught.value)
    assert message.startswith("verifiers.max_error_share: 3 of 8 verifications failed (")
    assert "'ten' is not an integer" in message
    assert "'twelve' is not an integer" in message
    assert message.endswith("mend the verifier or raise the share")


# ---------------------------------------------------------------------------------------------- after a weight sync


class Pool:
    """Workers whose engines are off by `gap` on one token."""

    def __init__(self, gaps: list[float], differing: list[str]) -> None:
        self.gaps, self.differing = gaps, differing
        self.updates: list[tuple[Any, int]] = []

    def update_weights(self, weights: Any, *, version: int) -> None:
        self.updates.append((weights, version))

    def score(self, rows: list[list[int]]) -> list[list[list[float]]]:
        return [[[-1.0] * (len(row) - 1) + [-1.0 + gap] for row in rows] for gap in self.gaps]

    def differing_tensors(self, weights: Any) -> list[str]:
        return self.differing

    def close(self) -> None:
        pass


class Learner:
    def weights_reference(self) -> str:
        return "reference"

    def logprobs(self, rows: list[list[int]]) -> list[list[float]]:
        return [[-1.0] * len(row) for row in rows]

    def close(self) -> None:
        pass


def with_parts(services: Services, gaps: list[float], differing: list[str]) -> Pool:
    pool = Pool(gaps, differing)
    services._pool, services._learner = pool, Learner()  # type: ignore[assignment]
    return pool


def test_a_sync_sends_the_weights_and_measures_the_gap_over_all_workers(services: Services) -> None:
    pool = with_parts(services, [0.0, 8e-4], [])
    check = services.publish(version=3, probe_rows=[[1, 2], [3, 4, 5, 6]])
    assert pool.updates == [("reference", 3)]
    assert check.max_gap == pytest.approx(8e-4)
    assert check.mean_gap == pytest.approx(2 * 8e-4 / 12)  # one token in each of two rows of the second worker


@pytest.mark.parametrize("gap", [2e-3, -0.7, math.nan])
def test_a_gap_past_the_limit_stops_the_run_and_names_the_tensors(services: Services, gap: float) -> None:
    with_parts(services, [0.0, gap], ["lm_head.weight", "model.norm.weight"])
    with pytest.raises(SyncError) as caught:
        services.publish(version=4, probe_rows=[[1, 2]])
    message = str(caught.value)
    assert message.startswith("weight sync 4: engine and learner differ by ")
    assert "limit 0.001" in message
    assert message.endswith("tensors that differ: lm_head.weight, model.norm.weight")


def test_a_gap_with_equal_tensors_says_that_the_arithmetic_differs(services: Services) -> None:
    with_parts(services, [0.1], [])
    with pytest.raises(SyncError, match="none: same weights, other arithmetic"):
        services.publish(version=1, probe_rows=[[1, 2]])


# ---------------------------------------------------------------------------------------------- checkpoints


def test_a_tied_head_is_among_the_weights_that_are_sent(tmp_path: Path) -> None:
    embedding = torch.arange(6.0).reshape(3, 2)
    save_file({"model.embed_tokens.weight": embedding}, tmp_path / "model-1.safetensors")
    save_file({"model.norm.weight": torch.ones(2)}, tmp_path / "model-2.safetensors")
    weights = checkpoint_weights(tmp_path)
    assert set(weights) == {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}
    assert torch.equal(weights["lm_head.weight"], embedding)


def test_an_untied_head_stays_what_it_is(tmp_path: Path) -> None:
    tensors = {"model.embed_tokens.weight": torch.zeros(3, 2), "lm_head.weight": torch.ones(3, 2)}
    save_file(tensors, tmp_path / "model.safetensors")
    assert torch.equal(checkpoint_weights(tmp_path)["lm_head.weight"], torch.ones(3, 2))


def test_a_folder_without_weights_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^checkpoint: .* holds no \*\.safetensors file"):
        checkpoint_weights(tmp_path)


def test_processes_that_do_not_end_by_themselves_are_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.services._END_TIMEOUT_S", 0.2)
    process = psutil.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    _await_end(_with_descendants(psutil.Process(process.pid)))
    assert not psutil.pid_exists(process.pid)
