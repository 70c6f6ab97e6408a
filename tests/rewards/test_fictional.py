"""Worlds of invented facts: one value per subject, balanced values, chains without shortcuts."""

from __future__ import annotations

import random
from collections import Counter

from rewards.fictional import BY_NAME, draw_chain, draw_world, one_hop, two_hops, with_distractors


def test_each_subject_has_one_value_per_relation_and_values_are_spread() -> None:
    for seed in range(20):
        facts = draw_world(random.Random(seed), 4)
        assert len(facts) == 40
        assert len({(fact.relation, fact.subject) for fact in facts}) == 40
        for relation in ("lives", "works"):
            shares = Counter(fact.value for fact in facts if fact.relation == relation)
            assert max(shares.values()) == 2
        names = {fact.subject for fact in facts}
        assert len({name.casefold() for name in names}) == len(names)


def test_chains_meet_in_the_middle_and_do_not_lead_back() -> None:
    for seed in range(50):
        rng = random.Random(seed)
        first, second = draw_chain(rng, draw_world(rng, 3))
        assert first.value == second.subject
        assert second.value != first.subject
        question = two_hops(first, second)
        assert first.subject in question
        assert first.value not in question
        assert second.value not in question


def test_questions_name_the_subject_and_not_the_value() -> None:
    for fact in draw_world(random.Random(0), 3):
        assert fact.subject in one_hop(fact)
        assert fact.value not in one_hop(fact)
        assert fact.subject in fact.sentence
        assert fact.value in fact.sentence
        assert fact.value_kind == BY_NAME[fact.relation].value_kind


def test_distractors_of_the_same_relation_come_first_and_the_kept_facts_stay() -> None:
    rng = random.Random(1)
    facts = draw_world(rng, 3)
    kept = (facts[0],)
    shown = with_distractors(rng, facts, kept, 4)
    assert len(shown) == 4
    assert facts[0] in shown
    same = sum(fact.relation == facts[0].relation for fact in facts)
    assert sum(fact.relation == facts[0].relation for fact in shown) == min(4, same)
