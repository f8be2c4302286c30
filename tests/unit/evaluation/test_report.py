"""The report: complete, self-contained, and deaf to what is written in the data."""

import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinloop.contracts.artefacts import SnapshotManifest
from twinloop.contracts.spec import GatePolicy, Rung
from twinloop.evaluation.cases import CaseScores
from twinloop.evaluation.foretold import Bin
from twinloop.evaluation.gate import judge
from twinloop.evaluation.guards import slice_vetoes
from twinloop.evaluation.intervals import Interval
from twinloop.evaluation.plots import Curve, Point, Row, apart, cost_plot, interval_plot, reliability_plot
from twinloop.evaluation.report import Occasion, render
from twinloop.evaluation.slices import SliceGain
from twinloop.evaluation.verdict import Candidate, Champion, Comparison, FailedRung
from twinloop.evaluation.words import gain_words, metric_words

CASES = 200
RUNGS = tuple(Rung(name=name, framework="xgboost", complexity=n) for n, name in enumerate(("popularity", "ease")))
WHEN = datetime(2026, 3, 1, 12, 3, tzinfo=UTC)
SNAPSHOT = SnapshotManifest(
    snapshot_id="s<1>", system="video", created_at=WHEN, lake_files=(), files=(), rows={}, first_event=WHEN,
    last_event=WHEN, split={}, feature_versions={}, schema_hash="h", features=(), history_length=200,
)  # fmt: skip
NASTY = ("</td><script>alert(1)</script>", "$\\frac{1", '"onload="x', "日本語 \U0001f600", "nul\x00l")


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that tags are closed in order."""

    VOID = frozenset({"meta", "br", "!doctype"})

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def scores(mean, labels=("light", "heavy")):
    half = np.arange(CASES) % 2 == 0
    values = np.linspace(mean - 0.05, mean + 0.05, CASES)
    return CaseScores(
        tuple(map(str, range(CASES))), {"ndcg@10": values}, {"activity": np.where(half, *labels)}, np.full(CASES, 2.0)
    )


def verdict(labels=("light", "heavy"), champion=True, candidates=True, reason="out of memory", notes=()):
    entries = [
        Candidate(rung, f"v{rung.name}", scores(mean, labels), 10.0, 3.0, 1e-6)
        for rung, mean in zip(RUNGS, (0.1, 0.2), strict=True)
    ]
    return judge(
        GatePolicy(primary="ndcg@10", resamples=200, slices=("activity",)),
        RUNGS,
        entries if candidates else [],
        champion=Champion("ease", "old", scores(0.15, labels), 9.0) if champion else None,
        failed=[FailedRung("tower", reason)],
        notes=notes,
    )


def page(found):
    return render(found, Occasion("video", SNAPSHOT, WHEN))


@pytest.mark.parametrize("champion", [True, False])
@pytest.mark.parametrize("candidates", [True, False])
def test_every_kind_of_verdict_is_a_whole_page(champion, candidates):
    found = verdict(champion=champion, candidates=candidates)
    read = Page(page(found))
    text = " ".join(" ".join(read.text).split())
    assert found.lead in text
    assert all(entry.standing in text for entry in found.judged)
    assert "out of memory" in text
    assert read.tags.count("svg") == ((4 if candidates else 2) if champion or candidates else 0)


def test_it_needs_nothing_but_itself():
    read = Page(page(verdict()))
    assert not {"script", "link", "img", "iframe", "object", "embed", "form"} & set(read.tags)
    assert not [value for name, value in read.attributes if name in {"src", "href", "action"}]
    outside = [v for n, v in read.attributes if v and re.search(r"https?://", v) and not n.startswith("xmlns")]
    assert outside == []
    assert ("http-equiv", "Content-Security-Policy") in read.attributes


@pytest.mark.parametrize("text", NASTY)
def test_what_is_written_in_the_data_stays_text(text):
    found = page(verdict(labels=(text, "heavy"), reason=text, notes=[text]))
    read = Page(found)
    assert "script" not in read.tags
    assert not [name for name, _ in read.attributes if name.startswith("on")]
    assert "<script" not in found


def test_figures_take_their_colours_from_the_page():
    found = page(verdict())
    assert "var(--promoted)" in found
    drawn = "".join(re.findall(r"<svg.*?</svg>", found, re.DOTALL))
    assert not re.findall(r"(?:fill|stroke): ?#[0-9a-f]{6}", drawn)


def test_the_same_verdict_is_the_same_page():
    assert page(verdict()) == page(verdict())


def test_figures_stand_extreme_values():
    flat = Interval(0.0, 0.0, 0.0, 0.95)
    assert "<svg" in interval_plot([Row("a" * 200, flat, margin=0.0)], "gain", zero=True)
    assert "<svg" in cost_plot([Point("a", 0.0, flat)], "ms", "ndcg")
    assert "<svg" in cost_plot([Point("a", 1e-6, flat), Point("b", 1e6, flat, "champion")], "ms", "ndcg")
    sizes = [Point("a", 1.0, flat, size=0.0), Point("b", 1.0, flat, size=1e6)]
    assert "<svg" in cost_plot(sizes, "ms", "ndcg")
    for share in (0.0, 1e-9, 1.0):
        curve = Curve("a" * 200, [Bin(share, Interval(share, share, share, 0.95), 1)], "champion")
        assert "<svg" in reliability_plot([curve, curve], "said", "came")


@given(st.lists(st.floats(-1, 1), max_size=12), st.floats(1e-3, 1))
def test_names_beside_a_plot_are_a_step_apart_and_no_further_than_they_must_be(heights, step):
    heights = sorted(heights)
    placed = np.array(apart(heights, step))
    gaps = np.diff(placed)
    assert (gaps >= step - 1e-9).all()
    # Of those that push each other, the mean stays; whoever is pushed by nobody stays as well.
    touching = np.split(np.arange(len(placed)), np.flatnonzero(gaps > step + 1e-9) + 1)
    for block in touching if heights else []:
        assert placed[block].mean() == pytest.approx(np.mean(np.array(heights)[block]), abs=1e-6)


@pytest.mark.parametrize(
    ("margin", "said"), [(0.0, "0.0000"), (0.0123, "0.0123"), (0.00032, "0.00032"), (0.0000123, "0.000012")]
)
def test_what_is_asked_for_is_told_however_little_it_is(margin, said):
    gain = Interval(-0.004, -0.006, -0.002, 0.95)
    assert gain_words(Comparison("logistic", gain, margin)).endswith(f"not above {said}")


def test_differences_of_ten_thousandths_are_told():
    """Margins of log loss are .00002 to .0003: with three decimals two models would be the same, and one would be 0."""
    fine = Interval(-0.00007, -0.00009, -0.00005, 0.95)
    assert metric_words("log_gain", fine) == "log_gain -0.00007 (-0.00009 to -0.00005)"
    assert metric_words("click_ece", fine).startswith("click_ece -0.00007")
    assert metric_words("ndcg", Interval(0.1834, 0.1, 0.2, 0.95)) == "ndcg 0.183 (0.100 to 0.200)"
    assert str(fine) == "-0.000070 [-0.000090, -0.000050]"
    assert str(Interval(0.1834, 0.1, 0.2, 0.95)) == "0.183 [0.100, 0.200]"
    said = gain_words(Comparison("base_rate", Interval(0.00021, 0.00001, 0.00041, 0.95), 0.00002))
    assert "+0.000210 over base_rate, 95% interval +0.000010 to +0.000410, lower bound not above 0.000020" in said


def test_slices_are_told_to_the_last_digit_of_what_is_tolerated():
    lost = SliceGain("device", "tv", 60, -0.1, -0.0998, Interval(-0.0002, -0.0003, -0.0001, 0.95), 0.00015, True)
    [veto] = slice_vetoes([lost], (), "the champion")
    assert "loses 0.00020 to the champion on 60 cases (-0.00030 to -0.00010); 0.00015 is tolerated" in veto.reason
