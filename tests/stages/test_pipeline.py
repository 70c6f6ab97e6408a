"""The pipeline's addresses and its gate: what changes a stage's key, and which parent a stage refuses.

Whole runs are in `tests/integration/test_pipeline.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from configs.load import load_config
from data.files import atomic_write
from data.records import UserError
from data.tokenizer import contract
from learner.checkpoint import CheckpointError, Manifest, write_checkpoint
from learner.model_folder import export_model
from rewards.registry import get_task
from stages.pipeline import Pipeline, code_commit, plan_stages, stage_key, start_of
from stages.prompts import mixed_prompts, prompt_record
from stages.run_config import STAGES, RunConfig
from stages.run_dir import RunDir
from stages.services import Services
from tests.data.byte_tokenizer import byte_tokenizer
from tests.learner.tiny_models import plain_model, save_tiny_model
from tests.stages.stage_fakes import quiet_progress

MICRO = Path(__file__).resolve().parents[1] / "integration" / "micro.yaml"


def config(*overrides: str) -> RunConfig:
    return load_config(RunConfig, [MICRO], list(overrides))


def keys(*overrides: str) -> dict[str, str]:
    return {planned.name: planned.key for planned in plan_stages(config(*overrides), RunDir("runs/x"), STAGES)}


# ---------------------------------------------------------------------------------------------- keys


BEFORE = {stage: set(STAGES[: STAGES.index(stage)]) for stage in STAGES}


@pytest.mark.parametrize(
    ("override", "first_changed"),
    [
        ("seed=1", "base"),
        ("base.num_documents=401", "base"),
        ("base.train.learner.lr=2e-3", "base"),
        ("evaluation.seed=5", "base"),  # another held-out set is kept out of training
        ("evaluation.benchmarks.arithmetic.num_prompts=17", "base"),
        ("evaluation.benchmarks.arithmetic.levels=[1]", "base"),
        ("evaluation.benchmarks.arithmetic.task=mode_flags", "base"),
        ("evaluation.decontamination_ngram=9", "base"),
        ("rollout.engine.dtype=bfloat16", "base"),
        ("cold_start.num_examples=31", "cold_start"),
        ("cold_start.teacher.error_rate=0.5", "cold_start"),
        ("reasoning_rl.rl.group_size=8", "reasoning_rl"),
        ("thinking_fusion.rows.default_share=0.5", "thinking_fusion"),
        ("general_rl.reasoning_replay=0.5", "general_rl"),
    ],
)
def test_a_setting_changes_the_keys_from_its_stage_on_and_none_before(override: str, first_changed: str) -> None:
    plain, changed = keys(), keys(override)
    assert {stage for stage in STAGES if plain[stage] == changed[stage]} == BEFORE[first_changed]


@pytest.mark.parametrize(
    "override",
    [
        "run_dir=elsewhere", "name=other", "rollout.num_workers=2", "rollout.num_threads=4", "learner.num_threads=2",
        "rollout.max_logprob_gap=0.1", "verifiers.num_workers=3", "ray.address=auto", "evaluation.stages=[base]",
        "evaluation.thinking.temperature=0.9", "evaluation.budget_benchmarks=[]",
        "evaluation.benchmarks.arithmetic.num_samples=4", "evaluation.benchmarks.arithmetic.modes=[thinking]",
        "evaluation.benchmarks.arithmetic.thinking_budget=8", "evaluation.benchmarks.arithmetic.max_tokens=8",
        "evaluation.benchmarks.arithmetic.stages=[base]", "evaluation.benchmarks.arithmetic.category=sums",
    ],
)  # fmt: skip
def test_where_a_run_works_and_how_it_measures_changes_no_key(override: str) -> None:
    assert keys(override) == keys()


def test_a_key_holds_the_parents_key_and_the_stage_1_queries_where_they_are_used() -> None:
    settings = config()
    assert stage_key(settings, "general_rl", "a") != stage_key(settings, "general_rl", "b")
    other = config("cold_start.num_candidates=2", "cold_start.queries.tasks.arithmetic.weight=2")
    for stage, depends in (("reasoning_rl", True), ("thinking_fusion", True), ("general_rl", False)):
        assert (stage_key(settings, stage, "p") != stage_key(other, stage, "p")) == depends


def test_a_key_follows_the_content_of_a_file_and_not_its_date(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"question": "1+1?", "answer": "2"}\n')
    override = f"reasoning_rl.queries.file={{path: {path}}}"
    first = keys(override)
    path.write_text('{"question": "1+1?", "answer": "2"}\n')
    assert keys(override) == first
    path.write_text('{"question": "1+1?", "answer": "3"}\n')
    changed = keys(override)
    assert {stage for stage in STAGES if first[stage] == changed[stage]} == {"base", "cold_start"}
    path.unlink()
    with pytest.raises(UserError, match=rf"^file\.path: {path} does not exist"):
        keys(override)


def test_the_plan_is_a_chain_and_a_stage_that_is_left_out_passes_its_parent_on() -> None:
    whole = plan_stages(config(), RunDir("runs/x"), STAGES)
    assert [planned.parent_key for planned in whole] == [None, *(planned.key for planned in whole[:-1])]
    assert whole[1].checkpoint_folder == Path(f"runs/x/stages/cold_start-{whole[1].key[:12]}/checkpoint")
    short = plan_stages(config(), RunDir("runs/x"), ("base", "cold_start", "general_rl"))
    assert short[2].parent_key == short[1].key == whole[1].key
    (alone,) = plan_stages(config(), RunDir("runs/x"), ("cold_start",), start_key=whole[0].key)
    assert alone.key == whole[1].key


# ---------------------------------------------------------------------------------------------- the parent


def model_folder(folder: Path, *, template: str | None = None, manifest: dict[str, Any] | None = None) -> Path:
    """A checkpoint with the byte tokenizer; with `manifest` fields it is one that a stage wrote."""
    tokenizer = byte_tokenizer()
    if template is not None:
        tokenizer.chat_template = template
    model = plain_model(save_tiny_model(folder.parent / "weights"))
    if manifest is None:
        return export_model(model, tokenizer, folder)
    fields = {
        "stage": "base", "key": "k" * 64, "parent": None, "config_hash": "", "data_hash": "", "rewards": (),
        "contract": contract(tokenizer), "seeds": {}, "code_commit": "", "packages": {}, "metrics": {}, "cost": {},
    }  # fmt: skip

    def write(path: Path) -> None:
        model.save_pretrained(path)
        tokenizer.save_pretrained(path)

    write_checkpoint(folder, Manifest(**(fields | manifest)), write)
    return folder


@pytest.fixture
def pipeline(tmp_path: Path) -> Any:
    services = Services(config(), tmp_path, quiet_progress()[0])
    yield Pipeline(config(), RunDir(tmp_path / "run"), services)
    services.close()


def test_a_parent_with_this_template_is_taken_with_and_without_a_manifest(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline._check_parent(model_folder(tmp_path / "plain"))
    pipeline._check_parent(model_folder(tmp_path / "ours", manifest={}))


def test_a_parent_with_another_template_is_refused_with_both_hashes(pipeline: Pipeline, tmp_path: Path) -> None:
    ours = model_folder(tmp_path / "ours", template="{{ messages }}", manifest={})
    with pytest.raises(
        CheckpointError, match=r"^contract: parent stage 'base' has \w{12}, this stage \w{12}.*template"
    ):
        pipeline._check_parent(ours)
    plain = model_folder(tmp_path / "plain", template="{{ messages }}")
    with pytest.raises(
        CheckpointError, match=r"^start: the chat template of .* is not this pipeline's; take the model"
    ):
        pipeline._check_parent(plain)


def test_a_parent_with_other_special_tokens_is_refused_with_the_field(pipeline: Pipeline, tmp_path: Path) -> None:
    other = contract(byte_tokenizer()) | {"end_token_ids": [7]}
    folder = model_folder(tmp_path / "ours", manifest={"contract": other})
    with pytest.raises(CheckpointError, match=r"end_token_ids \[7\] != \["):
        pipeline._check_parent(folder)


def test_a_parent_without_chat_tokens_is_refused_with_the_command_that_adds_them(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    folder = model_folder(tmp_path / "plain")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["added_tokens"] = [token for token in tokenizer["added_tokens"] if "think" not in token["content"]]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    config_file = json.loads((folder / "tokenizer_config.json").read_text())
    config_file.pop("added_tokens_decoder", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config_file))
    with pytest.raises(UserError, match=r"lacks <think>, </think>; import it with `fourstage import"):
        pipeline._check_parent(folder)


def test_a_parent_whose_card_cannot_be_read_is_refused_before_the_stage_and_not_at_its_end(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    folder = model_folder(tmp_path / "model")
    (folder / "README.md").write_text("---\nlicense: [mit\n---\n")
    with pytest.raises(UserError, match=r"README\.md: its front matter is not YAML"):
        pipeline._check_parent(folder)


def test_the_key_of_a_start_is_the_manifests_or_that_of_the_weights(tmp_path: Path) -> None:
    ours = model_folder(tmp_path / "ours", manifest={})
    assert start_of(ours) == (ours, "k" * 64)
    plain = model_folder(tmp_path / "plain")
    key = start_of(plain)[1]
    assert start_of(plain)[1] == key
    weights = bytearray((plain / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (plain / "model.safetensors").write_bytes(weights)
    assert start_of(plain)[1] != key
    (ours / "model.safetensors").write_bytes(weights)
    with pytest.raises(CheckpointError, match=r"model\.safetensors was altered"):
        start_of(ours)
    with pytest.raises(UserError, match=r"^start: .* is no folder"):
        start_of(tmp_path / "nowhere")


def test_a_whole_checkpoint_is_reused_and_nothing_is_started(pipeline: Pipeline, tmp_path: Path) -> None:
    (planned,) = plan_stages(config(), pipeline.run, ("base",))
    model_folder(planned.checkpoint_folder, manifest={"key": planned.key})
    made = pipeline.make(planned, None, [planned])
    assert (made.path, made.key) == (planned.checkpoint_folder, planned.key)
    assert not pipeline.services._ray_started


def test_where_stage_1_is_left_out_its_queries_are_those_that_it_would_have_drawn(pipeline: Pipeline) -> None:
    settings = config()
    without = plan_stages(settings, pipeline.run, ("base", "reasoning_rl", "thinking_fusion"))
    drawn = mixed_prompts(settings.cold_start.queries, count=48, seed=0, purpose="cold_start")
    clean, _ = pipeline.held_out.exclude(drawn)
    assert pipeline._stage_1_queries(without) == clean
    whole = plan_stages(settings, pipeline.run, STAGES)
    atomic_write(whole[1].folder / "data" / "queries.jsonl", json.dumps(prompt_record(clean[0])) + "\n")
    assert pipeline._stage_1_queries(whole) == clean[:1]
    assert pipeline._stage_1_queries(without) == clean


def test_the_commit_of_the_code_is_known_here() -> None:
    assert code_commit() == "unknown" or len(code_commit().removesuffix("-dirty")) == 40


def test_another_content_of_a_benchmarks_task_file_is_another_key(tmp_path: Path) -> None:
    source = Path(get_task("arithmetic").verify.__code__.co_filename).read_text(encoding="utf-8")
    file = tmp_path / "mine.py"
    file.write_text(source.replace('name="arithmetic"', 'name="keyed_by_content"'))
    override = f"evaluation.benchmarks.arithmetic.task={file}"
    before = keys(override)
    file.write_text(file.read_text(encoding="utf-8") + "# another version\n")
    after = keys(override)
    assert all(before[stage] != after[stage] for stage in STAGES)
