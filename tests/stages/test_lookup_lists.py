"""Lists that are said twice: the same pairs, another order, each value to be found in the first half."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from data.chat import END_OF_TEXT
from data.records import UserError
from rewards.tasks.long_retrieval import KEYS
from stages.base import BaseConfig
from stages.lookup_lists import lookup_documents
from stages.prompts import PromptMix, TaskShare

_PAIR = re.compile(r"(?:The )?(\w+)(?::| =| has| is) (\w+)[.,;]")


def test_both_halves_say_the_same_pairs_and_no_key_or_value_comes_twice() -> None:
    reordered = 0
    for document in lookup_documents(400, seed=1):
        assert document.endswith(END_OF_TEXT)
        first, second = (_PAIR.findall(half) for half in document.removesuffix(END_OF_TEXT).split("\n"))
        assert 3 <= len(first) <= 8
        assert Counter(first) == Counter(second)
        keys, values = zip(*first, strict=True)
        assert len(set(keys)) == len(set(values)) == len(first)
        reordered += first != second
    assert reordered > 350  # of three pairs one order in six is the same


def test_every_key_of_retrieval_is_seen_and_a_seed_says_which_documents() -> None:
    documents = lookup_documents(400, seed=1)
    text = " ".join(documents)
    assert all(re.search(rf"\b{key}\b", text) for key in KEYS)
    assert lookup_documents(400, seed=1) == documents
    assert not set(lookup_documents(400, seed=2)) & set(documents)
    assert lookup_documents(0, seed=1) == []


def test_fewer_than_none_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="lookup_lists: -1 must be 0 or more"):
        BaseConfig(corpus=PromptMix(tasks={"arithmetic": TaskShare()}), lookup_lists=-1).validate()
