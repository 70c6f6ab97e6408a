"""Fusion conversations: exact shares, the last flag obeyed in every row, and the same rows in every process."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.chat import EMPTY_BLOCK, last_flag, render, training_row
from data.fusion import (
    FusionConfig,
    FusionRow,
    NonThinkingExample,
    ThinkingExample,
    build_fusion_rows,
    unique_queries,
)
from data.records import Prompt, UserError
from tests.data.byte_tokenizer import byte_tokenizer

REPOSITORY = Path(__file__).parents[2]
TOOL = {"type": "function", "function": {"name": "calculator"}}
SINGLES = FusionConfig(default_share=0.25, multi_turn_share=0.0, system_flag_share=0.0)
DIALOGUES = FusionConfig(multi_turn_share=1.0, max_turns=4, carried_share=0.5, system_flag_share=0.0)


def prompt(uid: str, *, system: str | None = None, tools=None) -> Prompt:
    messages = ({"role": "user", "content": f"query {uid}"},)
    lead = ({"role": "system", "content": system},) if system else ()
    return Prompt(uid, "math", (*lead, *messages), None, tools=tools)


def thinking(num: int, **kwargs) -> list[ThinkingExample]:
    return [ThinkingExample(prompt(f"t{i}", **kwargs), f"reasoning t{i}", f"answer t{i}") for i in range(num)]


def non_thinking(num: int, **kwargs) -> list[NonThinkingExample]:
    return [NonThinkingExample(prompt(f"n{i}", **kwargs), f"answer n{i}") for i in range(num)]


def num_queries(row: FusionRow) -> int:
    return sum(message["role"] == "user" for message in row.messages)


def flag_of(row: FusionRow) -> str | None:
    return last_flag(row.messages[:-1])


def test_single_rows_carry_their_flag_at_the_end_of_the_query_except_the_default_share():
    rows = build_fusion_rows(thinking(8), non_thinking(5), SINGLES, seed=0)
    queries = {row.uid: row.messages[-2]["content"] for row in rows}
    assert len(rows) == 13
    assert all(queries[f"n{i}/non_thinking"] == f"query n{i} /no_think" for i in range(5))
    flagged = [queries[f"t{i}/thinking"] == f"query t{i} /think" for i in range(8)]
    unflagged = [queries[f"t{i}/thinking"] == f"query t{i}" for i in range(8)]
    assert (sum(flagged), sum(unflagged)) == (6, 2)


@pytest.mark.parametrize(
    ("share", "least", "most"), [(0.0, 0.0, 0.01), (0.25, 0.2, 0.3), (0.5, 0.42, 0.58), (1.0, 0.99, 1.0)]
)
def test_switch_share_is_how_often_the_mode_changes_inside_a_dialogue(share, least, most):
    config = FusionConfig(
        multi_turn_share=1.0, max_turns=5, switch_share=share, carried_share=0.0, system_flag_share=0.0
    )
    rows = build_fusion_rows(thinking(400), non_thinking(400), config, seed=3)
    switches = []
    for row in rows:
        flags = [message["content"].split()[-1] for message in row.messages if message["role"] == "user"]
        if len(flags) > 1:
            switches.append(flags[-1] != flags[-2])
    assert len(switches) > 400
    assert least <= sum(switches) / len(switches) <= most


def test_runs_use_every_example_once_even_when_one_mode_runs_out():
    rows = build_fusion_rows(thinking(30), non_thinking(5), replace(DIALOGUES, switch_share=0.9), seed=0)
    assert sorted(row.uid for row in rows) == sorted(
        [f"t{i}/thinking" for i in range(30)] + [f"n{i}/non_thinking" for i in range(5)]
    )


@pytest.mark.parametrize(
    ("share", "num_rows", "expected"), [(0.0, 7, 0), (0.5, 7, 4), (0.1, 7, 1), (1.0, 7, 7), (0.29, 100, 29)]
)
def test_default_share_is_a_rounded_count(share, num_rows, expected):
    config = FusionConfig(default_share=share, multi_turn_share=0.0)
    rows = build_fusion_rows(thinking(num_rows), [], config, seed=1)
    assert sum(flag_of(row) is None for row in rows) == expected


def test_rows_train_on_reasoning_or_on_an_empty_block():
    tokenizer = byte_tokenizer()
    for row in build_fusion_rows(thinking(3), non_thinking(3), SINGLES, seed=0):
        tokens = training_row(tokenizer, row.messages, tools=row.tools)
        completion = tokenizer.decode(tokens.token_ids[tokens.loss_mask.index(1) :])
        name = row.uid.split("/")[0]
        block = f"<think>\nreasoning {name}\n</think>\n\n" if row.mode == "thinking" else EMPTY_BLOCK
        assert completion == f"{block}answer {name}<|im_end|>"


def test_multi_turn_share_takes_its_exact_count_from_each_mode():
    config = FusionConfig(multi_turn_share=0.4, max_turns=3, train_turns="all")
    rows = build_fusion_rows(thinking(10), non_thinking(20), config, seed=3)
    longest: dict[str, int] = {}  # a dialogue's first row looks like a single one, so find it by its query
    for row in rows:
        for message in row.messages:
            if message["role"] == "user":
                query = message["content"].split(" /")[0]
                longest[query] = max(longest.get(query, 0), num_queries(row))
    in_dialogue = [query for query, length in longest.items() if length > 1]
    assert len(rows) == 30
    assert sum(query.startswith("query t") for query in in_dialogue) == 4
    assert sum(query.startswith("query n") for query in in_dialogue) == 8
    assert max(longest.values()) <= 3


def test_dialogue_turns_already_in_their_mode_drop_their_flag_in_the_carried_share():
    rows = build_fusion_rows(thinking(20), non_thinking(20), DIALOGUES, seed=5)
    redundant, unflagged = 0, 0
    for row in rows:
        *history, query, _ = row.messages
        in_force = last_flag(history) or "think"
        wanted = "think" if row.mode == "thinking" else "no_think"
        own = last_flag([query])
        assert own in (None, wanted)
        assert own == wanted or in_force == wanted
        redundant += in_force == wanted
        unflagged += own is None
    assert unflagged == int(redundant * 0.5 + 0.5)
    assert 0 < unflagged < len(rows)


def test_dialogues_mix_modes_and_their_history_holds_bare_answers():
    rows = build_fusion_rows(thinking(20), non_thinking(20), DIALOGUES, seed=5)
    switches = 0
    for row in rows:
        earlier = [message for message in row.messages[:-1] if message["role"] == "assistant"]
        assert all(set(message) == {"role", "content"} for message in earlier)
        assert render(row.messages).count("<think>") == 1
        names = {message["content"].split()[1][0] for message in [*earlier, row.messages[-1]]}
        switches += names == {"t", "n"}
    assert switches > 10


def test_each_turn_of_a_dialogue_is_a_row_or_only_the_last():
    every = build_fusion_rows(thinking(9), non_thinking(9), DIALOGUES, seed=2)
    last_only = FusionConfig(multi_turn_share=1.0, max_turns=4, system_flag_share=0.0, train_turns="last")
    last = build_fusion_rows(thinking(9), non_thinking(9), last_only, seed=2)
    assert len(every) == 18
    assert sum(num_queries(row) for row in last) == 18
    assert all(2 <= num_queries(row) <= 4 for row in last)
    assert {row.uid for row in last} < {row.uid for row in every}


@pytest.mark.parametrize(("num_examples", "expected"), [(1, [1]), (2, [2]), (3, [1, 2]), (5, [1, 2, 2])])
def test_an_example_without_a_partner_stays_a_single_conversation(num_examples, expected):
    config = FusionConfig(multi_turn_share=1.0, max_turns=2, train_turns="last")
    rows = build_fusion_rows(thinking(num_examples), [], config, seed=0)
    assert sorted(num_queries(row) for row in rows) == expected


def test_system_flag_share_moves_flags_into_the_system_message():
    config = FusionConfig(default_share=0.2, multi_turn_share=0.0, system_flag_share=0.5)
    rows = build_fusion_rows(thinking(10), non_thinking(12), config, seed=4)
    flagged = [row for row in rows if flag_of(row)]
    in_system = [row for row in flagged if last_flag(row.messages[:1]) and row.messages[0]["role"] == "system"]
    assert (len(flagged), len(in_system)) == (20, 10)
    for row in in_system:
        assert row.messages[0]["content"] == ("/think" if row.mode == "thinking" else "/no_think")
        assert last_flag([row.messages[1]]) is None


def test_system_flag_joins_an_existing_system_message():
    config = FusionConfig(multi_turn_share=1.0, system_flag_share=1.0)
    rows = build_fusion_rows([], non_thinking(1, system="Be terse."), config, seed=0)
    assert [message["content"] for message in rows[0].messages] == ["Be terse. /no_think", "query n0", "answer n0"]


def test_dialogue_opened_by_a_system_flag_is_overruled_by_a_later_query():
    config = FusionConfig(
        multi_turn_share=1.0, max_turns=2, carried_share=0.0, system_flag_share=1.0, train_turns="last"
    )
    rows = build_fusion_rows(thinking(20), non_thinking(20), config, seed=0)
    overruled = [row for row in rows if row.messages[0]["content"] == "/no_think" and row.mode == "thinking"]
    assert overruled
    assert all(row.messages[3]["content"].endswith(" /think") for row in overruled)


def test_prompts_with_tools_or_a_system_message_stay_single():
    tools = (TOOL,)
    rows = build_fusion_rows(thinking(6, tools=tools), non_thinking(6, system="Be terse."), DIALOGUES, seed=0)
    assert all(num_queries(row) == 1 for row in rows)
    assert all(row.tools == (tools if row.mode == "thinking" else None) for row in rows)


def test_flags_that_a_prompt_brings_along_do_not_survive():
    brought = Prompt("x", "math", ({"role": "user", "content": "/think query /think"},), None)
    rows = build_fusion_rows([], [NonThinkingExample(brought, "a")], SINGLES, seed=0)
    assert rows[0].messages[0]["content"] == "query /no_think"
    assert brought.messages[0]["content"] == "/think query /think"


def test_no_query_is_answered_in_both_modes_when_the_inputs_are_disjoint():
    rows = build_fusion_rows(thinking(15), non_thinking(15), FusionConfig(multi_turn_share=0.6), seed=7)
    modes: dict[str, set[str]] = {}
    for row in rows:
        modes.setdefault(row.messages[-2]["content"].split(" /")[0], set()).add(row.mode)
        assert row.messages[-1]["content"].removeprefix("answer ") == row.uid.split("/")[0]
    assert len(modes) == 30
    assert all(len(found) == 1 for found in modes.values())


def test_a_query_is_used_once_per_mode_and_the_first_example_of_it_is_kept():
    twin = Prompt("other", "math", ({"role": "user", "content": "query t0 /think"},), None)
    examples = [*thinking(2), ThinkingExample(twin, "r", "a")]
    assert unique_queries(examples) == examples[:2]
    rows = build_fusion_rows(examples, [NonThinkingExample(prompt("t0"), "answer t0")], SINGLES, seed=0)
    assert sorted(row.uid for row in rows) == ["t0/non_thinking", "t0/thinking", "t1/thinking"]


shares = st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 9),
    st.integers(0, 9),
    st.builds(
        FusionConfig,
        default_share=shares,
        multi_turn_share=shares,
        max_turns=st.integers(2, 5),
        carried_share=shares,
        system_flag_share=shares,
        train_turns=st.sampled_from(["all", "last"]),
    ),
    st.integers(0, 3),
)
def test_the_last_flag_is_obeyed_in_every_row(num_thinking, num_non_thinking, config, seed):
    rows = build_fusion_rows(thinking(num_thinking), non_thinking(num_non_thinking), config, seed=seed)
    for row in rows:
        assert (flag_of(row) == "no_think") == (row.mode == "non_thinking")
        assert (row.messages[-1]["reasoning_content"] == "") == (row.mode == "non_thinking")
    if config.train_turns == "all":
        assert len({row.uid for row in rows}) == len(rows) == num_thinking + num_non_thinking


def test_seed_decides_the_rows():
    inputs = thinking(12), non_thinking(12), FusionConfig()
    assert build_fusion_rows(*inputs, seed=1) == build_fusion_rows(*inputs, seed=1)
    assert build_fusion_rows(*inputs, seed=1) != build_fusion_rows(*inputs, seed=2)


PRINT_ROWS = (
    "from tests.data.test_fusion import *\n"
    "print(repr(build_fusion_rows(thinking(12), non_thinking(12), FusionConfig(), seed=1)))"
)


def test_rows_do_not_depend_on_the_hash_seed_of_the_process():
    digests = set()
    for hash_seed in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(REPOSITORY)}
        printed = subprocess.run(
            [sys.executable, "-c", PRINT_ROWS], env=environment, cwd=REPOSITORY, capture_output=True, check=True
        ).stdout
        assert printed.count(b"FusionRow(") == 24
        digests.add(hashlib.sha256(printed).hexdigest())
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: FusionConfig(default_share=1.5), "fusion.default_share: 1.5"),
        (lambda: FusionConfig(carried_share=float("nan")), "fusion.carried_share: nan"),
        (lambda: FusionConfig(max_turns=1), "fusion.max_turns: 1"),
        (lambda: FusionConfig(train_turns="first"), "fusion.train_turns: 'first'"),  # type: ignore[arg-type]
        (lambda: ThinkingExample(prompt("x"), " ", "a"), "thinking example 'x'"),
        (lambda: NonThinkingExample(prompt("x"), ""), "non-thinking example 'x'"),
        (lambda: unique_queries([NonThinkingExample(Prompt("x", "m", (), None), "a")]), "prompt 'x': no user message"),
        (
            lambda: unique_queries(
                [NonThinkingExample(Prompt("x", "m", ({"role": "user", "content": ["q"]},), None), "a")]
            ),
            "prompt 'x': user content",
        ),
    ],
)
def test_bad_settings_and_examples_are_refused_by_name(make, field):
    with pytest.raises(UserError, match=f"^{field}"):
        make()
