"""Moderation as the rails see it."""

import duckdb
from hypothesis import given
from hypothesis import strategies as st

from twinloop import systems
from twinloop.systems.moderation.evaluate import Remote, cases
from twinloop.systems.moderation.features import AMOUNTS_SQL, MEASURES, WRONGED, amounts, guarded

TYPES = ("view", "report", "violation", "restoration")


def test_the_ladder_begins_with_lists_of_words() -> None:
    system = systems.load("moderation")
    assert [rung.name for rung in system.spec.rungs] == [
        "lexicon", "hashed_linear", "embedding_bag", "text_transformer"
    ]  # fmt: skip
    assert system.spec.gate.false_positive_slices == ("identity", "dialect")
    assert all(feature.time_to_live_days == feature.window_days for feature in system.definitions)


def test_examples_are_told_in_which_guarded_slices_they_are() -> None:
    spec = systems.load("moderation").spec
    assert tuple(WRONGED) == spec.gate.false_positive_slices
    assert guarded({"text": "Women and men, gonna see"}) == ["identity=named", "dialect=marked"]
    assert guarded({"text": "a garden"}) == guarded({"text": None}) == []


@given(st.sampled_from(TYPES))
def test_both_languages_count_alike(kind: str) -> None:
    with duckdb.connect() as connection:
        row = connection.execute(f"SELECT {', '.join(AMOUNTS_SQL)} FROM (SELECT ? AS type)", [kind]).fetchone()  # noqa: S608
    assert row == amounts({"type": kind})
    assert sum(amounts({"type": kind})) == 1
    assert len(MEASURES) == len(TYPES)


def test_a_labelled_file_becomes_cases_and_the_api_answers_them() -> None:
    rows = [
        {"item_id": "t1", "text": "a garden", "extra": '{"labels": {"spam": 0, "scam": 0.5}}'},
        {"item_id": "t2", "text": "unlabelled", "extra": None},
    ]
    [made] = cases(rows, lambda users: [])
    assert (made.case_id, made.truth) == ("t1", {"labels": {"spam": 0.0, "scam": 0.5}})
    decision = {"action": "limit", "because": ["spam"], "labels": {"spam": 0.4}}
    asked = []
    told = Remote(lambda body: (asked.append(body), {"decisions": [decision]})[1], made).look("a garden")
    assert asked == [{"text": "a garden", "explore": False}]
    assert (told.decision.action, told.labels) == ("limit", {"spam": 0.4})
