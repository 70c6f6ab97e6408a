"""The engine and the learner on an accelerator: the CPU path with other settings. Not run where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")]


def test_engine_and_learner_agree_in_bfloat16(tmp_path: Path) -> None:
    from learner.learner import Learner, LearnerConfig
    from rollout.config import EngineConfig
    from rollout.engine import Engine
    from tests.integration.tiny_policies import save_policy

    folder = save_policy(tmp_path / "model")
    engine = Engine(folder, EngineConfig(dtype="bfloat16", max_model_len=128, gpu_memory_utilization=0.2))
    learner = Learner(folder, LearnerConfig(dtype="bfloat16"), device="cuda")
    row = list(range(5, 60))
    gaps = [abs(a - b) for a, b in zip(engine.score([row])[0], learner.logprobs([row])[0], strict=True)]
    engine.close()
    assert max(gaps) < 0.1
