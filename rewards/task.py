"""The reward task: one record that holds a prompt generator, a verifier and the examples that keep the verifier honest.

    Task.generate -> TaskItem -> Prompt -> (a policy) -> ScoreRequest -> Task.decide -> Score, or a judge's turn

A task is data and pure functions. Where it runs (inline or in a killable process) is the business of
`rewards.verifier_pool`; which tasks exist is the business of `rewards.registry`; asking judges and preference models
about what rules left undecided is the business of `rewards.scorer`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from data.chat import THINK_CLOSE, THINK_OPEN, ParsedCompletion
from data.episodes import EnvironmentFactory
from data.records import Completion, FinishReason, Message, Mode, Prompt, Score, UserError
from rewards.extract import parse_request, refusal
from rewards.judge import JudgeQuestion

Area = Literal["reasoning", "instruction_following", "format_following", "preference_alignment", "agent", "specialised"]
RewardType = Literal["rule", "judge_with_reference", "preference_model"]


@dataclass(frozen=True, slots=True)
class TaskItem:
    """One generated query with its reference; `reference` is JSON, its keys are the task's `reference_keys`."""

    messages: tuple[Message, ...]
    reference: Any
    tools: tuple[Mapping[str, Any], ...] | None = None
    enable_thinking: bool | None = None
    domain: str = ""


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """One completion to score, plain data that can be sent to another process.

    For an episode of several turns `completion` is the last turn, `turns` are all of them, `ended` says why it was over
    and `outcome` is what the environment saw (`data.episodes.Environment.outcome`).
    """

    task: str
    messages: tuple[Message, ...]
    reference: Any
    completion: str
    enable_thinking: bool | None = None
    finish_reason: FinishReason = "stop"
    turns: tuple[str, ...] = ()
    ended: str = ""
    outcome: Any = None


def score_request(prompt: Prompt, completion: Completion) -> ScoreRequest:
    """What the scorer gets to see of a completion."""
    return ScoreRequest(
        task=prompt.task,
        messages=prompt.messages,
        reference=prompt.reference,
        completion=completion.text,
        enable_thinking=prompt.enable_thinking,
        finish_reason=completion.finish_reason,
        turns=completion.turns,
        ended=completion.ended,
        outcome=completion.outcome,
    )


@dataclass(frozen=True, slots=True)
class Worked:
    """A worked solution: the text for the think block and the final answer that follows it."""

    reasoning: str
    answer: str


@dataclass(frozen=True, slots=True)
class Example:
    """A completion whose verdict is known; `note` names the behaviour or the attack that it stands for."""

    completion: str
    reference: Any
    messages: tuple[Message, ...] = ({"role": "user", "content": "Question"},)
    enable_thinking: bool | None = None
    finish_reason: FinishReason = "stop"
    note: str = ""
    turns: tuple[str, ...] = ()
    ended: str = ""
    outcome: Any = None

    def request(self, task: str) -> ScoreRequest:
        """The score request that this example stands for."""
        return ScoreRequest(
            task, self.messages, self.reference, self.completion, self.enable_thinking, self.finish_reason,
            self.turns, self.ended, self.outcome,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Task:
    """One reward task.

    `summary` says what is verified, `hack` the known way to cheat it, `guard` what stops that.
    `verify` gets completions that passed the checks common to all tasks (`rewards.extract.refusal`) and returns a
    score; it raises only when the verifier itself fails.
    `answer` gives the text of a right final answer; `work` a worked solution in which each step is wrong with
    probability `error_rate`, the wrong value being carried on to the answer.
    `in_worker` marks a verifier that can hang or exhaust memory; `quick_check` may decide a request of such a task
    without it (None: undecided), and `prepare_worker` imports what the verifier needs when a worker starts.
    `timeout_s` replaces the pool's time limit; `sandboxed` says that the verifier runs code of the policy.

    Tasks with a judge or a preference model: `verify` is the rule gate and may return None, which leaves the answer to
    the model. `judge_question` says what a judge is asked; below `judged_from_level` rules decide every answer, so that
    these levels train without a judge.

    Tasks of several turns: `environment` makes the world of one episode from the reference, and `demonstrate` gives the
    messages of a solved episode after the prompt (assistant turns with `reasoning_content` and `tool_calls`, and what
    came back), in which each step is wrong with probability `error_rate`. `turns_needed` are the turns that solved
    episodes of each level may take, where that is more than a run allows by default.

    `floor` is the reward that an answer without merit may get (0 for all but tasks that pay in parts), and `fragments`
    are pieces of text that a fuzzer should try beside its own.

    `refuse` is what is never paid for, whatever `verify` says. Only scorers of published benchmarks
    (`rewards.benchmark_tasks`) replace it, because their harnesses score answers that no training task accepts.
    """

    name: str
    area: Area
    reward_type: RewardType
    summary: str
    hack: str
    guard: str
    generate: Callable[[random.Random, int], TaskItem]
    max_difficulty: int
    verify: Callable[[ScoreRequest, ParsedCompletion], Score | None]
    reference_keys: tuple[str, ...]
    known_good: tuple[Example, ...]
    known_bad: tuple[Example, ...]
    answer: Callable[[TaskItem], str] | None = None
    work: Callable[[random.Random, TaskItem, float], Worked] | None = None
    in_worker: bool = False
    quick_check: Callable[[ScoreRequest, ParsedCompletion], Score | None] | None = None
    prepare_worker: Callable[[], None] | None = None
    timeout_s: float | None = None
    sandboxed: bool = False
    judge_question: Callable[[ScoreRequest, ParsedCompletion], JudgeQuestion] | None = None
    judged_from_level: int = 0
    environment: EnvironmentFactory | None = None
    demonstrate: Callable[[random.Random, TaskItem, float], tuple[Message, ...]] | None = None
    turns_needed: tuple[int, ...] = ()
    floor: float = 0.0
    fragments: tuple[str, ...] = ()
    refuse: Callable[[ScoreRequest, ParsedCompletion], Score | None] = refusal

    def decide(self, request: ScoreRequest) -> Score | None:
        """The verdict of the rules, in this process; None leaves the answer to the judge or the preference model.

        An exception means that the verifier failed, not that the answer is wrong.
        """
        parsed = parse_request(request)
        quick = self._quick(request, parsed)
        return self.verify(request, parsed) if quick is None and self.in_worker else quick

    def score(self, request: ScoreRequest) -> Score:
        """`decide` for tasks whose rules decide everything; RuntimeError when a model has to be asked."""
        score = self.decide(request)
        if score is None:
            raise RuntimeError(f"task {self.name!r} leaves this answer to a model: score it with rewards.scorer.Scorer")
        return score

    def needs_worker(self, request: ScoreRequest) -> bool:
        """Whether this request has to be verified in a killable process."""
        return self.in_worker and self._quick(request, parse_request(request)) is None

    def decide_inline(self, request: ScoreRequest) -> Score | None:
        """`decide` without what only a worker may run: None when a worker, a judge or a model has to decide."""
        return self._quick(request, parse_request(request))

    def _quick(self, request: ScoreRequest, parsed: ParsedCompletion) -> Score | None:
        refused = self.refuse(request, parsed)
        if refused is not None:
            return refused
        if not self.in_worker:
            return self.verify(request, parsed)
        return self.quick_check(request, parsed) if self.quick_check else None


def make_prompt(task: Task, *, seed: int, index: int, difficulty: int) -> Prompt:
    """The prompt number `index` of a task: a function of its arguments alone, whatever PYTHONHASHSEED is.

    The generator is seeded with a string, which `random.Random` hashes with SHA-512. Raises UserError for a
    difficulty that the task does not have.
    """
    if not 0 <= difficulty <= task.max_difficulty:
        raise UserError(
            f"difficulty of task {task.name!r} is {difficulty}: choose a level from 0 to {task.max_difficulty}"
        )
    key = f"{task.name}/{seed}/{difficulty}/{index}"
    item = task.generate(random.Random(key), difficulty)
    return Prompt(
        uid=key,
        task=task.name,
        messages=item.messages,
        reference=item.reference,
        enable_thinking=item.enable_thinking,
        tools=item.tools,
        domain=item.domain,
        difficulty=difficulty,
    )


def evaluation_only(name: str) -> Callable[[random.Random, int], TaskItem]:
    """The generator of a task that only scores a published benchmark: it refuses to make prompts."""

    def generate(rng: random.Random, difficulty: int) -> TaskItem:
        raise UserError(
            f"task {name!r} scores a published benchmark and makes no prompts; it is for evaluation only, see "
            "docs/benchmarks.md"
        )

    return generate


def item_of(prompt: Prompt) -> TaskItem:
    """The task item inside a prompt, for `Task.answer` and `Task.work`."""
    return TaskItem(prompt.messages, prompt.reference, prompt.tools, prompt.enable_thinking, prompt.domain)


def completion_text(worked: Worked, mode: Mode, *, prefilled: bool = False) -> str:
    """The completion that a policy would sample for a worked solution in the given mode.

    Non-thinking keeps the empty block unless the prompt already holds it (`prefilled`).
    """
    if mode == "thinking":
        return f"{THINK_OPEN}\n{worked.reasoning}\n{THINK_CLOSE}\n\n{worked.answer}"
    return worked.answer if prefilled else f"{THINK_OPEN}\n\n{THINK_CLOSE}\n\n{worked.answer}"


def gold_completion(task: Task, prompt: Prompt) -> str:
    """A completion that earns reward 1: error-free worked solution or bare gold answer, in the mode asked for.

    Raises ValueError when the task has neither `work` nor `answer`.
    """
    prefilled = prompt.enable_thinking is False
    if task.work is not None:
        worked = task.work(random.Random(f"gold/{prompt.uid}"), item_of(prompt), 0.0)
        return completion_text(worked, prompt.mode, prefilled=prefilled)
    if task.answer is None:
        raise ValueError(f"task {task.name!r} has neither work nor answer: it has no gold completion")
    answer = Worked("", task.answer(item_of(prompt)))
    return completion_text(answer, "non_thinking", prefilled=prefilled or prompt.mode == "thinking")
