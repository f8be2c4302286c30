"""What clicks say of places and of items, against simulations of which the truth is known."""

import gzip
import json
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinloop.datasets.simulator.run import simulate
from twinloop.datasets.simulator.settings import SearchSettings
from twinloop.training.examined import Seen, attraction, estimate


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clicks") / "made"
    simulate(folder, SearchSettings(items=400, topics=8, queries=60, searches=12_000, seed=1))
    told = pq.read_table(folder / "truth.parquet").to_pylist()
    truth = {
        "examined": [row["p_seen"] for row in told[:10]],
        "attraction": {(row["query"], row["item_id"]): row["p_attracts"] for row in told},
    }
    [file] = (folder / "raw" / "events").iterdir()
    with gzip.open(file, "rt") as lines:
        events = [json.loads(line) for line in lines]
    clicked = {(event["request_id"], event["item_id"]) for event in events if event["type"] == "click"}
    shown, clicks = Counter(), Counter()
    for event in events:
        for place, item in enumerate(event.get("shown", ())):
            shown[event["query"], item, place] += 1
            clicks[event["query"], item, place] += (event["request_id"], item) in clicked
    return truth, [Seen(*key, count, clicks[key]) for key, count in shown.items()]


def test_places_are_found_again(simulated):
    truth, seen = simulated
    found = estimate(seen)
    np.testing.assert_allclose(found.examined[:10], truth["examined"], atol=0.06)
    assert (np.diff(found.examined[10:]) == 0).all()


def test_what_attracts_is_freed_of_its_places(simulated):
    truth, seen = simulated
    found = attraction(seen, estimate(seen))
    shown, clicked, places = Counter(), Counter(), Counter()
    for one in seen:
        pair = one.query, one.item
        shown[pair] += one.shown
        clicked[pair] += one.clicked
        places[pair] += one.shown * one.place
    pairs = [pair for pair in found if shown[pair] >= 100]
    true = np.array([truth["attraction"][pair] for pair in pairs])
    debiased = np.array([found[pair] for pair in pairs])
    naive = np.array([clicked[pair] / shown[pair] for pair in pairs])
    low = np.array([places[pair] / shown[pair] for pair in pairs]) > 4
    assert np.sqrt(((debiased - true) ** 2).mean()) < 0.7 * np.sqrt(((naive - true) ** 2).mean())
    # Items that stood low: clicks alone say that they attract a quarter of what they do.
    assert naive[low].mean() < 0.5 * true[low].mean()
    assert abs(debiased[low].mean() / true[low].mean() - 1) < 0.25


def test_places_that_were_all_looked_at_alike_are_found_alike():
    seen = [Seen("q", f"i{item}", place, 1000, 50 * (item + 1)) for item in range(5) for place in range(5)]
    found = estimate(seen)
    np.testing.assert_allclose(found.examined, 1.0)
    assert attraction(seen, found)["q", "i4"] == pytest.approx(0.25, abs=0.01)


@given(
    st.lists(
        st.builds(
            Seen,
            st.sampled_from(["p", "q"]),
            st.sampled_from(["a", "b", "c"]),
            st.integers(0, 60),
            st.integers(1, 50),
            st.integers(0, 50),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_whatever_is_seen_chances_are_chances(seen):
    if all(one.place >= 50 for one in seen):
        with pytest.raises(ValueError, match="nothing was shown"):
            estimate(seen)
        return
    found = estimate(seen)
    assert ((found.examined > 0) & (found.examined <= 1)).all()
    assert all(0 <= value <= 1 for value in attraction(seen, found).values())
