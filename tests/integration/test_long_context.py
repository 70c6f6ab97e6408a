"""YaRN in the real engine and in the learner: the same positions, past the length that the model was made for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from data.records import UserError
from learner.context_length import YarnConfig
from learner.learner import Learner
from learner.learner_config import LearnerConfig
from learner.model_folder import export_model
from rollout.config import EngineConfig
from rollout.engine import Engine
from stages.import_model import ImportConfig, import_model
from tests.integration.engine_pairs import Pair
from tests.integration.tiny_policies import request, tiny_model, tiny_tokenizer

pytestmark = [pytest.mark.engine, pytest.mark.integration]

ORIGINAL, FACTOR = 64, 4.0
STRETCHED = int(ORIGINAL * FACTOR)
CONFIG = EngineConfig(max_model_len=STRETCHED, max_num_seqs=16, max_num_batched_tokens=1024)
MAX_GAP = 1e-3


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A policy with 64 positions, and the same taken in with YaRN."""
    folder = tmp_path_factory.mktemp("yarn")
    tokenizer = tiny_tokenizer()
    model = tiny_model("qwen3", len(tokenizer), tied=True, seed=1, max_positions=ORIGINAL)
    plain = export_model(model, tokenizer, folder / "plain")
    said = import_model(ImportConfig(folder=str(plain)), folder / "stretched", yarn=YarnConfig(factor=FACTOR))
    assert "base: positions stretched by YaRN to 256" in said
    return plain, folder / "stretched"


@pytest.fixture(scope="module")
def pair(folders: tuple[Path, Path]) -> Iterator[Pair]:
    _, stretched = folders
    engine = Engine(stretched, CONFIG)
    yield Pair(engine, Learner(stretched, LearnerConfig()), stretched)
    engine.close()


def test_engine_and_learner_agree_on_what_is_sampled_past_the_original_length(pair: Pair) -> None:
    prompt = pair.ids("the sum of two and three is five a then b then c")
    requests = [request(prompt, index=index, seed=index, max_tokens=STRETCHED - len(prompt)) for index in range(16)]
    completions = pair.engine.generate(requests)
    longest = max(len(prompt) + completion.num_tokens for completion in completions)
    assert longest > 3 * ORIGINAL  # else nothing was tested
    assert max(pair.gap(completion) for completion in completions) < MAX_GAP


def test_every_consumer_sees_the_same_positions_over_the_whole_context(pair: Pair, folders: tuple[Path, Path]) -> None:
    generator = torch.Generator().manual_seed(0)
    row = torch.randint(len(pair.engine.tokenizer), (STRETCHED,), generator=generator).tolist()
    learner = torch.tensor(pair.learner.logprobs([row])[0])
    engine = torch.tensor(pair.engine.score([row])[0])
    assert float((learner - engine).abs().max()) < MAX_GAP

    ids = torch.tensor([row])
    plain, stretched = folders
    alone = AutoModelForCausalLM.from_pretrained(stretched, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        logits = alone(ids).logits[0, :-1]
    expected = logits.log_softmax(-1).gather(1, ids[0, 1:, None]).squeeze(1)
    assert float((learner[1:] - expected).abs().max()) < MAX_GAP

    # And YaRN is not nothing: without it the same weights say something else, within the original length already.
    short = row[:ORIGINAL]
    other = torch.tensor(Learner(plain, LearnerConfig()).logprobs([short])[0])
    assert float((learner[:ORIGINAL] - other).abs().max()) > 0.05


def test_a_context_beyond_the_stretched_one_is_refused_in_one_line(folders: tuple[Path, Path]) -> None:
    _, stretched = folders
    with pytest.raises(UserError, match=r"^rollout.engine.max_model_len: 257 is more than the 256 positions of"):
        Engine(stretched, EngineConfig(max_model_len=STRETCHED + 1))
