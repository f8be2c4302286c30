"""The simulated forum: its truth is true, its texts can be told apart, and the same settings are the same bytes."""

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from twinloop.datasets.simulator.best import best_possible
from twinloop.datasets.simulator.run import simulate
from twinloop.datasets.simulator.settings import ModerationSettings
from twinloop.datasets.simulator.texts import LABELS, PHRASES, TextWorld
from twinloop.errors import BadInputError
from twinloop.text.disguises import normalise

FORUM = ModerationSettings(items=1500, users=80, reviewers=8, days=5, seed=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated") / "it"
    simulate(folder, FORUM)
    return folder


@pytest.fixture(scope="module")
def truth(folder):
    return pq.read_table(folder / "truth.parquet").to_pylist()


def test_people_say_what_their_probabilities_promise(truth):
    said, p = np.array([row["flagged"] for row in truth]), np.array([row["p_flagged"] for row in truth])
    assert said.mean() == pytest.approx(p.mean(), abs=4 * np.sqrt((p * (1 - p)).sum()) / len(p))
    sure = p > 0.9
    assert said[sure].mean() > 0.85
    assert said[p < 0.1].mean() < 0.1


def test_each_text_is_asked_about_by_as_many_people_and_not_always_about_every_label(truth):
    people, labels = defaultdict(set), defaultdict(set)
    for row in truth:
        people[row["item_id"]].add(row["reviewer_id"])
        labels[row["item_id"]].add(row["label"])
    assert {len(who) for who in people.values()} == {FORUM.asked}
    every = np.mean([of == set(LABELS) for of in labels.values()])
    assert every == pytest.approx(FORUM.every_label, abs=0.05)


def test_phrases_make_labels_likely_and_quoting_them_does_not():
    told, quoted = (TextWorld(replace(FORUM, quoted=share, disguised=0)) for share in (0.0, 1.0))
    assert max(odds for one in told.texts for odds in one.odds) > 1
    assert max(one.odds[0] for one in told.texts) > max(one.odds[0] for one in quoted.texts)
    for one in told.texts:
        for label, odds in zip(LABELS, one.odds, strict=True):
            if odds > -4:
                assert any(phrase in one.text for phrase, _ in PHRASES[label])


def test_what_is_disguised_is_read_all_the_same():
    """What lists of words miss is undone by the normalisation that models read by, or nearly all of it."""
    world = TextWorld(replace(FORUM, quoted=0, disguised=1))
    written = [one for one in world.texts if max(one.odds) > -4]
    phrases = [phrase for some in PHRASES.values() for phrase, _ in some]
    plain = np.mean([any(phrase in one.text for phrase in phrases) for one in written])
    read = np.mean([any(normalise(phrase) in normalise(one.text) for phrase in phrases) for one in written])
    assert plain < 0.1
    assert read > 0.5


def test_the_best_possible_is_of_what_people_say(folder):
    best = best_possible(folder / "truth.parquet")
    assert best.outcome == "flagged"
    assert 0.85 < best.click.auc < 1
    assert best.click.calibration_ratio == pytest.approx(1, abs=0.1)


def test_the_same_settings_write_the_same_bytes(folder, tmp_path):
    simulate(tmp_path / "it", FORUM)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            assert (tmp_path / "it" / path.relative_to(folder)).read_bytes() == path.read_bytes(), path


@pytest.mark.parametrize("wrong", [{"items": 1}, {"asked": 9}, {"disguised": 1.5}, {"reviewers": 0}])
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(BadInputError):
        ModerationSettings(**({"reviewers": 8} | wrong))
