"""What a judge is asked about an answer that rules cannot decide."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class JudgeQuestion:
    """One question to a model that has a reference: is `response` right?

    `question` is what the user asked, `reference` the right answer or the facts that decide, `criterion` what counts as
    right in this task, in one or two sentences. `response` is the policy's answer without its thinking.
    """

    question: str
    reference: str
    criterion: str
    response: str
