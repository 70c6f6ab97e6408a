"""Prompts of a stage: how many of which task, which flags, none twice, and none that is held out."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.chat import last_flag
from data.records import Prompt, UserError
from evals.evaluate import BenchmarkConfig, EvaluationConfig, held_out_prompts
from stages.general_rl import GeneralRLConfig
from stages.prompts import (
    FileSource,
    HeldOut,
    PromptMix,
    TaskFile,
    TaskShare,
    mixed_prompts,
    prompt_of_record,
    prompt_record,
    prompt_text,
    require_readable_files,
    same_item,
    with_flag,
)
from tests.stages.stage_fakes import prompts_of

FLAGGED = TaskShare(levels=(0, 1), non_thinking_share=0.5, flagged_share=0.5)


def mode_of_flag(prompt: Prompt) -> str:
    return last_flag(prompt.messages) or "none"


@given(weights=st.lists(st.floats(0.01, 10), min_size=1, max_size=3), count=st.integers(0, 60), seed=st.integers(0, 3))
def test_quotas_follow_the_weights_and_add_up_to_the_count(weights: list[float], count: int, seed: int) -> None:
    names = ["math", "json_answer", "mode_flags"][: len(weights)]
    mix = PromptMix(tasks={name: TaskShare(weight=weight) for name, weight in zip(names, weights, strict=True)})
    found = Counter(prompt.task for prompt in mixed_prompts(mix, count=count, seed=seed, purpose="p"))
    assert found.total() == count
    for name, weight in zip(names, weights, strict=True):
        assert abs(found[name] - count * weight / sum(weights)) < 1


def test_quotas_by_hand() -> None:
    mix = PromptMix(tasks={"math": TaskShare(weight=2), "json_answer": TaskShare(weight=1)})
    drawn = mixed_prompts(mix, count=10, seed=0, purpose="p")
    assert Counter(prompt.task for prompt in drawn) == {"math": 7, "json_answer": 3}


def test_prompts_are_distinct_and_levels_take_turns() -> None:
    mix = PromptMix(tasks={"arithmetic": TaskShare(levels=(1, 3))})
    drawn = mixed_prompts(mix, count=200, seed=0, purpose="p")
    assert len({prompt_text(prompt) for prompt in drawn}) == 200
    assert Counter(prompt.difficulty for prompt in drawn) == {1: 100, 3: 100}


def test_the_draw_hangs_on_seed_and_purpose() -> None:
    mix = PromptMix(tasks={"math": TaskShare()})

    def uids(**changes: object) -> list[str]:
        return [prompt.uid for prompt in mixed_prompts(mix, **{"count": 20, "seed": 0, "purpose": "a", **changes})]  # type: ignore[arg-type]

    assert uids() == uids()
    assert set(uids()) & set(uids(seed=1)) == set()
    assert set(uids()) & set(uids(purpose="b")) == set()


# ---------------------------------------------------------------------------------------------- flags


@pytest.mark.parametrize("non_thinking", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("flagged", [0.0, 0.5, 1.0])
def test_shares_of_flags_are_exact(non_thinking: float, flagged: float) -> None:
    share = TaskShare(non_thinking_share=non_thinking, flagged_share=flagged)
    drawn = mixed_prompts(PromptMix(tasks={"math": share}), count=40, seed=0, purpose="p")
    found = Counter(map(mode_of_flag, drawn))
    assert found["no_think"] == 40 * non_thinking
    assert found["think"] == (40 - found["no_think"]) * flagged
    assert found["none"] == 40 - found["no_think"] - found["think"]


def test_the_hard_switch_takes_its_share_of_the_non_thinking_prompts() -> None:
    share = TaskShare(non_thinking_share=0.5, hard_share=0.75, flagged_share=0.5)
    drawn = mixed_prompts(PromptMix(tasks={"math": share}), count=40, seed=0, purpose="p")
    hard = [prompt for prompt in drawn if prompt.enable_thinking is False]
    assert len(hard) == 15
    assert {mode_of_flag(prompt) for prompt in hard} == {"none"}
    assert sum(prompt.mode == "non_thinking" for prompt in drawn) == 20
    assert len({prompt.uid for prompt in drawn}) == 40


def test_no_level_goes_with_one_flag() -> None:
    """Flags dealt by position would give every even level one mode and every odd level the other."""
    drawn = mixed_prompts(PromptMix(tasks={"arithmetic": FLAGGED}), count=200, seed=0, purpose="p")
    found = Counter((prompt.difficulty, mode_of_flag(prompt)) for prompt in drawn)
    for level in (0, 1):
        assert 30 <= found[level, "no_think"] <= 70
        assert 10 <= found[level, "think"] <= 40
        assert 10 <= found[level, "none"] <= 40


def test_a_flag_changes_the_mode_and_the_uid_and_stands_behind_the_last_user_message() -> None:
    (prompt,) = prompts_of("math", 1)
    flagged = with_flag(prompt, "/no_think")
    assert flagged.messages[-1]["content"] == f"{prompt.messages[-1]['content']} /no_think"
    assert (prompt.mode, flagged.mode) == ("thinking", "non_thinking")
    assert flagged.uid == f"{prompt.uid}/no_think"
    assert "/no_think" not in str(prompt.messages)
    assert same_item(prompt) == same_item(flagged)
    assert prompt_text(prompt) == prompt_text(flagged)


def test_without_a_share_prompts_keep_the_flags_they_have() -> None:
    mix = PromptMix(tasks={"mode_flags": TaskShare()})
    assert {mode_of_flag(prompt) for prompt in mixed_prompts(mix, count=40, seed=0, purpose="p")} == {
        "think",
        "no_think",
    }


# ---------------------------------------------------------------------------------------------- held-out items


def held_out(ngram: int = 13) -> HeldOut:
    benchmarks = {
        "a": BenchmarkConfig(task="arithmetic", levels=(2,), num_prompts=60),
        "b": BenchmarkConfig(task="mode_flags", num_prompts=60),
    }
    groups = held_out_prompts(EvaluationConfig(benchmarks=benchmarks)).values()
    return HeldOut.of([prompt for group in groups for prompt in group], ngram=ngram)


def test_a_prompt_that_equals_a_held_out_one_is_dropped_whatever_its_flags_and_spacing() -> None:
    gate = held_out()
    for prompt in gate.prompts:
        spaced = [{**m, "content": str(m["content"]).replace(" + ", "  +\n")} for m in prompt.messages]
        same = [prompt, with_flag(prompt, "/think"), dataclasses.replace(prompt, messages=tuple(spaced))]
        assert gate.exclude(same) == ([], 3)


def test_other_prompts_of_the_same_template_are_kept_in_order() -> None:
    drawn = mixed_prompts(PromptMix(tasks={"arithmetic": TaskShare(levels=(3,))}), count=50, seed=0, purpose="train")
    assert held_out().exclude(drawn) == (drawn, 0)


def test_a_small_task_gives_no_training_prompt_that_is_held_out() -> None:
    """Half of the task's prompts are held out: independent draws collide, and the gate has to find all collisions."""
    gate = HeldOut.of(
        [p for group in held_out_prompts(
            EvaluationConfig(benchmarks={"length": BenchmarkConfig(task="length", num_prompts=1000)})
        ).values() for p in group],
        ngram=13,
    )  # fmt: skip
    drawn = mixed_prompts(PromptMix(tasks={"length": TaskShare()}), count=600, seed=0, purpose="train")
    clean, dropped = gate.exclude(drawn)
    texts = {prompt_text(prompt) for prompt in gate.prompts}
    assert dropped >= sum(prompt_text(prompt) in texts for prompt in drawn) > 100
    assert {prompt_text(prompt) for prompt in clean} & texts == set()


def test_what_a_benchmark_keeps_from_training_does_not_hang_on_the_other_benchmarks() -> None:
    json = {"json": BenchmarkConfig(task="json_answer", num_prompts=512)}
    others = {name: BenchmarkConfig(task=name, num_prompts=512) for name in ("arithmetic", "tool_call", "mode_flags")}
    drawn = mixed_prompts(PromptMix(tasks={"json_answer": TaskShare()}), count=400, seed=0, purpose="train")
    kept = []
    for benchmarks in (json, json | others):
        groups = held_out_prompts(EvaluationConfig(benchmarks=benchmarks)).values()
        kept.append(HeldOut.of([prompt for group in groups for prompt in group], ngram=13).exclude(drawn)[0])
    assert kept[0] == kept[1]
    assert len(kept[0]) > 100


# ---------------------------------------------------------------------------------------------- files and records


def test_a_file_takes_the_place_of_the_tasks(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps({"q": f"What is {n} squared?", "a": str(n * n)}) + "\n" for n in range(9)))
    source = FileSource(path=str(path), question_field="q", answer_field="a")
    mix = PromptMix(tasks={"arithmetic": TaskShare()}, file=source)
    drawn = mixed_prompts(mix, count=5, seed=0, purpose="p")
    assert len(drawn) == 5
    assert {prompt.task for prompt in drawn} == {"math"}
    assert [p.uid for p in drawn] == [p.uid for p in mixed_prompts(mix, count=5, seed=0, purpose="p")]
    assert [p.uid for p in drawn] != [p.uid for p in mixed_prompts(mix, count=5, seed=1, purpose="p")]


def test_a_broken_line_in_any_mixture_of_a_stage_is_found_before_the_stage_runs(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"question": "1+1?", "answer": "2"}\n{"question": "1+2?", "answer"\n')
    mix = PromptMix(file=FileSource(path=str(path)))
    plain = PromptMix(tasks={"math": TaskShare()})
    with pytest.raises(UserError, match=r"mine\.jsonl:2"):
        require_readable_files(GeneralRLConfig(prompts=plain, replay=mix))
    require_readable_files(GeneralRLConfig(prompts=plain, replay=plain))


@pytest.mark.parametrize("task", ["mode_flags", "tool_call", "math"])
def test_a_prompt_reads_back_from_json_as_it_was(task: str) -> None:
    for prompt in prompts_of(task, 5):
        assert prompt_of_record(json.loads(json.dumps(prompt_record(prompt)))) == prompt


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        (PromptMix(), "tasks: name at least one reward task, or give `file`"),
        (PromptMix(tasks={"arithmetic": TaskShare(levels=(0, 99))}), "tasks.arithmetic.levels: 99 is no level"),
        (PromptMix(tasks={"arithmetc": TaskShare()}), "task"),
        (TaskShare(weight=0.0), "weight: 0.0 must be above 0"),
        (TaskShare(levels=()), "levels: give at least one"),
        (TaskShare(non_thinking_share=1.5), "non_thinking_share: 1.5 must lie in"),
        (TaskShare(flagged_share=-0.5), "flagged_share: -0.5 must lie in"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(mix: PromptMix | TaskShare, message: str) -> None:
    with pytest.raises(UserError) as caught:
        mix.validate()
    assert str(caught.value).startswith(message)


# ---------------------------------------------------------------------------------------------- a user's own prompts

USER_TASK = """
from data.records import Score
from rewards.task import Task, TaskItem

TASK = Task(
    name="parrot", area="specialised", reward_type="rule", summary="s", hack="h", guard="g",
    generate=lambda rng, difficulty: TaskItem(({"role": "user", "content": f"Say {rng.random()}"},), {"say": "x"}),
    max_difficulty=0, verify=lambda request, parsed: Score.of(float(parsed.answer == request.reference["say"])),
    reference_keys=("say",), known_good=(), known_bad=(),
)
"""


def test_a_file_takes_the_place_of_one_tasks_generator(tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": f"JSON {n}?"}], "reference": {"schema": {}, "values": {"n": n}}}
        for n in range(6)
    ]
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = TaskShare(file=TaskFile(path=str(file)), non_thinking_share=0.5, hard_share=1.0)
    mix = PromptMix(tasks={"json_answer": own, "arithmetic": TaskShare()})
    drawn = mixed_prompts(mix, count=8, seed=0, purpose="p")
    mine = [prompt for prompt in drawn if prompt.task == "json_answer"]
    assert len(mine) == 4
    assert {prompt_text(prompt) for prompt in mine} <= {f"JSON {n}?" for n in range(6)}
    assert sorted(str(prompt.enable_thinking) for prompt in mine) == ["False", "False", "None", "None"]
    assert mixed_prompts(mix, count=8, seed=0, purpose="p") == drawn
    assert len([p for p in mixed_prompts(mix, count=40, seed=0, purpose="p") if p.task == "json_answer"]) == 6


def test_a_file_whose_reference_lacks_what_the_verifier_reads_is_refused_before_the_run(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text(json.dumps({"messages": [{"role": "user", "content": "JSON?"}], "reference": {"schema": {}}}))
    mix = PromptMix(tasks={"json_answer": TaskShare(file=TaskFile(path=str(file)))})
    with pytest.raises(UserError, match=r"mine.jsonl: the row that asks 'JSON\?' .* lacks 'values'"):
        require_readable_files(GeneralRLConfig(prompts=mix, reasoning_replay=0))


def test_a_python_file_is_a_task_like_any_other(tmp_path: Path) -> None:
    file = tmp_path / "parrot.py"
    file.write_text(USER_TASK)
    mix = PromptMix(tasks={str(file): TaskShare(), "arithmetic": TaskShare()})
    mix.validate()
    drawn = mixed_prompts(mix, count=6, seed=0, purpose="p")
    assert Counter(prompt.task for prompt in drawn) == {"parrot": 3, "arithmetic": 3}
    with pytest.raises(UserError, match=r"absent\.py' does not exist"):
        PromptMix(tasks={str(tmp_path / "absent.py"): TaskShare()}).validate()
