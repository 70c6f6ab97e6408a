"""What a stage works with: scored rollouts, failed verifiers, the check after a weight sync, and lazy starting."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from configs.load import load_config
from data.records import Prompt, Score, UserError
from rewards.task import ScoreRequest
from rollout.policy import GenerationRequest, SamplingConfig
from stages.run_config import RunConfig
from stages.services import Services, SyncError, checkpoint_weights
from tests.stages.stage_fakes import FakePolicy, prompts_of, quiet_progress

MICRO = Path(__file__).resolve().parents[1] / "integration" / "micro.yaml"

# ---------------------------------------------------------------------------------------------- services without Ray


@pytest.fixture
def services(tmp_path: Path) -> Any:
    config = load_config(RunConfig, [MICRO], ["verifiers.max_error_share=0.25"])
    services = Services(config, tmp_path, quiet_progress()[0])
    yield services
    services.close()


def test_nothing_is_started_before_it_is_needed(services: Services) -> None:
    assert services.scorer.verifiers.worker_pids() == ()
    assert not services._ray_started
    services.close()
    services.close()


def rolled_out(services: Services, prompts: list[Prompt], texts: list[str], **options: Any) -> list[Score]:
    """Scores of these answers, one for each prompt."""
    answers = dict(zip((prompt.uid for prompt in prompts), texts, strict=True))
    policy = FakePolicy(lambda request: answers[request.prompt_uid])
    requests = [GenerationRequest(p.uid, 0, (1, 2), SamplingConfig(), 0) for p in prompts]
    return list(services.roll_out(policy, prompts, requests, **options).scores)


def test_answers_are_scored_and_gated_by_mode(services: Services) -> None:
    prompts = prompts_of("arithmetic", 3)
    right = [f"<think>\nx\n</think>\n\n\\boxed{{{prompt.reference['answer']}}}" for prompt in prompts]
    wrong = [f"<think>\nx\n</think>\n\n\\boxed{{{prompt.reference['answer'] + 1}}}" for prompt in prompts]
    assert [score.reward for score in rolled_out(services, prompts, wrong)] == [0.0] * 3
    assert [score.reward for score in rolled_out(services, prompts, right, mode_gate=True)] == [1.0] * 3
    bare = [str(prompt.reference["answer"]) for prompt in prompts]
    assert [score.reward for score in rolled_out(services, prompts, bare)] == [1.0] * 3
    assert [score.reward for score in rolled_out(services, prompts, bare, mode_gate=True)] == [0.0] * 3


def test_failed_verifiers_past_the_set_share_stop_the_run_with_examples(services: Services) -> None:
    prompts = prompts_of("arithmetic", 8)
    for index in range(2):
        prompts[index] = dataclasses.replace(prompts[index], reference={"answer": "twelve"})
    scores = rolled_out(services, prompts, ["12"] * 8)  # 2 of 8 are exactly the share that is allowed
    assert [score.outcome for score in scores[:2]] == ["error", "error"]
    assert [score.reward for score in scores[:2]] == [None, None]
    prompts[2] = dataclasses.replace(prompts[2], reference={"answer": "ten"})
    with pytest.raises(UserError) as caught:
        rolled_out(services, prompts, ["12"] * 8)
    message = str(caught.value)
    assert message.startswith("verifiers.max_error_share: 3 of 8 verifications failed (arithmetic: verifier raised")
    assert "'ten' is not an integer; answer '12'" in message
    assert "'twelve' is not an integer; answer '12'" in message
    assert message.endswith("mend the verifier or raise the share")


def test_answers_from_elsewhere_are_scored_under_the_same_limit(services: Services) -> None:
    (prompt,) = prompts_of("arithmetic", 1)
    good = ScoreRequest("arithmetic", prompt.messages, prompt.reference, str(prompt.reference["answer"]))
    assert [score.reward for score in services.score([good])] == [1.0]
    with pytest.raises(UserError, match=r"1 of 1 verifications failed \(verifier raised ValueError"):
        services.score([dataclasses.replace(good, reference={"answer": "twelve"})])


# ---------------------------------------------------------------------------------------------- after a weight sync


class Pool:
    """Workers whose engines are off by `gap` on one token."""

    def __init__(self, gaps: list[float], differing: list[str]) -> None:
        self.gaps, self.differing = gaps, differing
        self.peak_bytes = 7
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
    def weights_reference(self, *, max_lora_rank: int = 0) -> str:
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


def test_a_sync_compares_the_first_64_tokens_of_a_long_row(services: Services) -> None:
    with_parts(services, [8e-4], [])
    check = services.publish(version=3, probe_rows=[list(range(200))])
    assert check.mean_gap == pytest.approx(8e-4 / 64)  # the last token that is compared is the one with a gap


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


# ---------------------------------------------------------------------------------------------- another run


class Part:
    """A part that knows whether it was closed."""

    closed = False
    rating = "rating"

    def close(self) -> None:
        self.closed = True


PARTS = ("_pool", "_judge_pool", "_preference", "_learner")


@pytest.mark.parametrize(
    ("overrides", "same_model", "ended"),
    [
        (["reasoning_rl.rl.num_steps=3", "seed=1", "run_dir=elsewhere"], True, []),
        ([], False, ["_pool"]),
        (["rollout.engine.max_num_seqs=64"], True, ["_pool", "_judge_pool"]),
        (["learner.num_threads=2"], True, ["_learner"]),
        (["judge.max_tokens=99"], True, ["_judge_pool"]),
        (["ray.object_store_gib=0.3"], True, list(PARTS)),
    ],
)
def test_another_run_ends_what_it_needs_otherwise_and_keeps_the_rest(
    services: Services, overrides: list[str], same_model: bool, ended: list[str]
) -> None:
    parts = {name: Part() for name in PARTS}
    for name, part in parts.items():
        setattr(services, name, part)
    scorer = services.scorer
    config = load_config(RunConfig, [MICRO], ["verifiers.max_error_share=0.25", *overrides])
    services.serve(config, same_model=same_model)
    assert [name for name in PARTS if parts[name].closed] == ended
    assert [name for name in PARTS if getattr(services, name) is None] == ended
    assert services.config == config
    assert services.scorer is not scorer
    assert not services._ray_started


def test_a_preference_model_is_kept_for_the_next_run_unless_it_is_another(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []

    def start(settings: Any, *, log_folder: Path) -> Part:
        started.append(settings.folder)
        return Part()

    monkeypatch.setattr("stages.preference_model.start_preference_model", start)
    monkeypatch.setattr(services, "_start_ray", lambda: None)
    for folder in ("one", "one", "two"):
        services.serve(services.config, same_model=True)
        assert services.preference_folder is None  # each run names or trains its own
        before = services._preference
        services.preference_folder = folder
        services._start_preference()
    assert started == ["one", "two"]
    assert before.closed  # type: ignore[union-attr]


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
