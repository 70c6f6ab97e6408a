"""The catalogue of tasks is complete, follows the tasks, and `docs/rewards.md` is what the tasks say today."""

from __future__ import annotations

import re
from pathlib import Path

from rewards.catalogue import MAX_PROMPT_CHARS, catalogue
from rewards.registry import all_tasks, load_user_task, user_file
from rewards.task import make_prompt
from rewards.verifier_pool import VerifierPool
from tests.rewards.leaky_task import registry_as_it_was

ROOT = Path(__file__).resolve().parents[2]
TASKS = [task for task in all_tasks() if user_file(task.name) is None]


def test_the_documentation_is_up_to_date() -> None:
    written = (ROOT / "docs" / "rewards.md").read_text(encoding="utf-8")
    assert written == catalogue(), "docs/rewards.md is out of date; mend it with: fourstage rewards docs"


def test_every_task_has_a_row_a_section_and_a_prompt_of_every_level() -> None:
    text = catalogue()
    for task in TASKS:
        assert text.count(f"| [`{task.name}`](#{task.name}) | {task.reward_type} | {task.max_difficulty + 1} |") == 1
        (section,) = re.findall(rf"^### {task.name}\n(.*?)(?=^##)", text, re.DOTALL | re.MULTILINE)
        assert [int(level) for level in re.findall(r"^Level (\d+):$", section, re.MULTILINE)] == list(
            range(task.max_difficulty + 1)
        )
        first = str(make_prompt(task, seed=0, index=0, difficulty=0).messages[-1]["content"])
        if len(first) < MAX_PROMPT_CHARS // 3:
            assert first.replace("```", "'''") in section
        for part in ("* Area: ", "Verified: ", "* Known hack", "* Guard: ", "Reference: "):
            assert part in section, f"{task.name} lacks {part!r}"


def test_no_fence_is_left_open_and_long_prompts_are_cut() -> None:
    text = catalogue()
    assert text.count("\n```") % 2 == 0
    assert max(len(block) for block in re.findall(r"```text\n(.*?)\n```", text, re.DOTALL)) < MAX_PROMPT_CHARS + 100


def test_the_task_of_the_documentation_works(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", catalogue(), re.DOTALL)
    file = tmp_path / "double.py"
    file.write_text(code.replace('name="double"', 'name="double_of_the_documentation"'))
    with registry_as_it_was(), VerifierPool() as pool:
        task = load_user_task(file)
        requests = [example.request(task.name) for example in (*task.known_good, *task.known_bad)]
        assert [score.reward for score in pool.score_all(requests) if score] == [1.0, 0.0]
        assert task.name not in catalogue()
