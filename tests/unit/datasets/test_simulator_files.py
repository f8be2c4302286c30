"""What a simulation writes: rows that the ETL takes without exception, the truth apart from them, the same bytes."""

import gzip
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_lake import loaded, rows_of

from twinloop.datasets.simulator.best import best_possible
from twinloop.datasets.simulator.json_lines import json_lines
from twinloop.datasets.simulator.parts import Parts
from twinloop.datasets.simulator.run import simulate
from twinloop.datasets.simulator.settings import VideoSettings, WorldSettings
from twinloop.errors import BadInputError

WORLD = WorldSettings(users=300, items=200, days=10, seed=3)
VIDEO = VideoSettings(events=30_000)
NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)
FORMATS = ("jsonl.gz", "parquet")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A simulation in each format, and what became of it in a lake."""
    found = {}
    for kind in FORMATS:
        folder = tmp_path_factory.mktemp("simulated") / "it"
        report = simulate(folder, WORLD, VIDEO, kind=kind)
        found[kind] = SimpleNamespace(folder=folder, report=report, lake=lake(folder / "raw"))
    return found


def lake(raw):
    """Deliver every file as `twinloop load` would, through the real ingest."""
    store, receipts = loaded(raw, "video", NOON)
    keys = {"users": "user_id", "items": "item_id", "events": "event_id"}
    tables = {table: sorted(rows_of(store, "video", table), key=itemgetter(key)) for table, key in keys.items()}
    return SimpleNamespace(receipts=receipts, tables=tables, refused=list(store.keys("quarantine/")))


@pytest.mark.parametrize("kind", FORMATS)
def test_the_etl_takes_every_row(made, kind):
    it = made[kind]
    assert not it.lake.refused
    assert not any(receipt.quarantined or receipt.refused for receipt in it.lake.receipts)
    for table, rows in it.lake.tables.items():
        assert len(rows) == it.report.rows[table] > 0
    assert len({row["event_id"] for row in it.lake.tables["events"]}) == it.report.rows["events"]


def test_both_formats_become_the_same_lake(made):
    lines, parquet = (made[kind].lake.tables for kind in FORMATS)

    def meant(rows):
        return [{k: json.loads(v) if k in ("context", "extra") and v else v for k, v in row.items()} for row in rows]

    for table in lines:
        assert meant(lines[table]) == meant(parquet[table])


def test_every_row_says_that_it_is_simulated(made):
    tables = made["jsonl.gz"].lake.tables
    assert all(json.loads(row["context"])["simulated"] is True for row in tables["events"])
    for table in ("users", "items"):
        assert all(json.loads(row["extra"])["simulated"] is True for row in tables[table])
    folder = made["jsonl.gz"].folder
    assert "Nothing in this folder happened" in (folder / "README.md").read_text(encoding="utf-8")
    assert json.loads((folder / "simulation.json").read_text(encoding="utf-8"))["simulated"] is True


def test_rows_look_like_what_a_user_would_send(made):
    tables = made["jsonl.gz"].lake.tables
    events = {kind: [row for row in tables["events"] if row["type"] == kind] for kind in ("watch", "click", "hide")}
    watch = events["watch"][0]
    assert 0 <= watch["watch_s"] <= watch["duration_s"]
    assert set(json.loads(watch["context"])) == {"device", "country", "simulated"}
    assert all(row["watch_s"] is None and row["duration_s"] is None for row in events["click"])
    assert all(row["request_id"] and 0 <= row["position"] < 10 for rows in events.values() for row in rows)
    item = tables["items"][0]
    assert item["title"].strip()
    assert item["tags"]
    assert item["author_id"].startswith("a")
    assert item["duration_s"] >= 5
    assert item["published_at"].tzinfo is not None
    assert {row["item_id"] for row in tables["events"]} <= {row["item_id"] for row in tables["items"]}
    assert {row["user_id"] for row in tables["events"]} <= {row["user_id"] for row in tables["users"]}


def test_the_truth_stands_apart_and_is_of_the_impressions(made):
    folder, tables = made["jsonl.gz"].folder, made["jsonl.gz"].lake.tables
    assert not any("p_" in name for name in tables["events"][0])
    truth = {row["event_id"]: row for row in pq.read_table(folder / "truth.parquet").to_pylist()}
    shown = {row["event_id"]: row for row in tables["events"] if row["type"] == "impression"}
    assert truth.keys() == shown.keys()
    for name in ("user_id", "item_id", "request_id", "position", "time"):
        assert all(truth[event][name] == row[name] for event, row in shown.items())
    clicked = {(row["request_id"], row["item_id"]) for row in tables["events"] if row["type"] == "click"}
    assert {(r["request_id"], r["item_id"]) for r in truth.values() if r["clicked"]} == clicked
    watched = {(r["request_id"], r["item_id"]): r["watch_s"] for r in tables["events"] if r["type"] == "watch"}
    for row in truth.values():
        assert row["watch_s"] == pytest.approx(watched.get((row["request_id"], row["item_id"]), 0.0), rel=1e-5)
        assert 0 <= row["p_long_view"] <= row["p_click"] <= row["p_seen"] <= 1


@pytest.mark.parametrize("kind", FORMATS)
def test_the_same_settings_write_the_same_bytes(made, kind, tmp_path):
    simulate(tmp_path / "it", WORLD, VIDEO, kind=kind)
    for path in sorted(made[kind].folder.rglob("*")):
        if path.is_file():
            assert (tmp_path / "it" / path.relative_to(made[kind].folder)).read_bytes() == path.read_bytes(), path


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(BadInputError, match="not an empty folder"):
        simulate(tmp_path, WORLD, VIDEO)
    with pytest.raises(BadInputError, match="not an empty folder"):
        simulate(tmp_path / "notes.txt", WORLD, VIDEO)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(BadInputError, match=r"one of jsonl\.gz, parquet, not 'csv'"):
        simulate(tmp_path / "it", WORLD, VIDEO, kind="csv")


def test_a_part_is_full_where_rows_end(tmp_path):
    with Parts(tmp_path, "events", "jsonl.gz", part_rows=10) as parts:
        for first in range(0, 28, 4):
            parts.add(pa.table({"n": list(range(first, first + 4))}))
    assert parts.rows == 28
    found = [
        [json.loads(row)["n"] for row in gzip.decompress(path.read_bytes()).splitlines()]
        for path in sorted(tmp_path.iterdir())
    ]
    assert found == [list(range(12)), list(range(12, 24)), list(range(24, 28))]


# ---------------------------------------------------------------- the best possible score


def test_the_best_possible_is_the_score_of_the_truth(made):
    folder = made["parquet"].folder
    best = best_possible(folder / "truth.parquet")
    assert best.impressions == best.judged == made["parquet"].report.rows["truth"]
    assert best == made["parquet"].report.best
    for outcome in (best.click, best.long_view):
        assert 0.7 < outcome.auc < 0.95
        assert outcome.normalised_entropy < 0.9
        assert outcome.calibration_ratio == pytest.approx(1, abs=0.1)
    assert best.watch_s["rmse"] > best.watch_s["mae"] > 0
    told = json.loads((folder / "simulation.json").read_text(encoding="utf-8"))["best_possible"]
    assert told == best.as_dict()


def test_no_guess_beats_it(made):
    from twinloop.evaluation.probability import auc, log_loss

    truth = pq.read_table(made["parquet"].folder / "truth.parquet").to_pydict()
    best = best_possible(made["parquet"].folder / "truth.parquet")
    blurred = [0.7 * p + 0.3 * best.click.rate for p in truth["p_click"]]
    assert log_loss(truth["clicked"], blurred) > best.click.log_loss
    by_place = [-place for place in truth["position"]]
    assert auc(truth["clicked"], by_place) < best.click.auc - 0.05


def test_it_can_be_asked_of_a_time_or_a_slice(made):
    path = made["parquet"].folder / "truth.parquet"
    middle = WORLD.start + timedelta(days=5)
    whole, early, late = best_possible(path), best_possible(path, until=middle), best_possible(path, since=middle)
    assert early.impressions + late.impressions == whole.impressions
    assert early.click.rate * early.judged + late.click.rate * late.judged == pytest.approx(
        whole.click.rate * whole.judged
    )
    cold = best_possible(path, only="cold_item")
    assert 0 < cold.impressions < whole.impressions


def test_of_very_many_impressions_every_nth_is_judged(made):
    path = made["parquet"].folder / "truth.parquet"
    whole, some = best_possible(path), best_possible(path, most=5000)
    assert some.impressions == whole.impressions
    assert 2500 < some.judged <= 5000
    assert some.click.auc == pytest.approx(whole.click.auc, abs=0.05)


def test_what_it_cannot_be_asked(made, tmp_path):
    path = made["parquet"].folder / "truth.parquet"
    with pytest.raises(BadInputError, match="there is no such file"):
        best_possible(tmp_path / "truth.parquet")
    with pytest.raises(BadInputError, match="only cold_user or cold_item, not 'new'"):
        best_possible(path, only="new")
    with pytest.raises(BadInputError, match="simulate more events"):
        best_possible(path, since=datetime(2030, 1, 1, tzinfo=UTC))


# ---------------------------------------------------------------- JSON lines

plain = st.text(st.characters(exclude_characters='"\\', exclude_categories=("C", "Z")), max_size=5)
finite = st.floats(allow_nan=False, allow_infinity=False)
lines = st.fixed_dictionaries(
    {"id": plain, "n": st.integers(-(2**62), 2**62), "yes": st.booleans()},
    optional={"x": finite, "kind": st.text(max_size=4), "tags": st.lists(st.text(max_size=3), max_size=3), "t": finite},
)
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("n", pa.int64()),
        ("yes", pa.bool_()),
        ("x", pa.float64()),
        ("kind", pa.dictionary(pa.int8(), pa.string())),
        ("tags", pa.list_(pa.string())),
        ("t", pa.float64()),
    ]
)


@given(st.lists(lines, max_size=12))
def test_lines_are_the_rows(rows):
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    assert [json.loads(line) for line in bytes(json_lines(table)).splitlines() if line] == [
        {name: row[name] for name in SCHEMA.names if name in row} for row in rows
    ]


def test_objects_and_times_in_lines():
    where = pa.StructArray.from_arrays([pa.array(["tv", "pc"]).dictionary_encode(), pa.array([1, 2])], ["at", "n"])
    times = pa.array([0, 1735689600123]).cast(pa.timestamp("ms", tz="UTC"))
    found = [json.loads(line) for line in bytes(json_lines(pa.table({"t": times, "c": where}))).splitlines()]
    assert found == [{"t": 0, "c": {"at": "tv", "n": 1}}, {"t": 1735689600123, "c": {"at": "pc", "n": 2}}]


# ---------------------------------------------------------------- memory

PEAK = """
import sys, tempfile
from pathlib import Path
from twinloop.datasets.simulator.run import simulate
from twinloop.datasets.simulator.settings import VideoSettings, WorldSettings
with tempfile.TemporaryDirectory() as folder:
    world = WorldSettings(users=20_000, items=2_000, days=2)
    simulate(Path(folder, "it"), world, VideoSettings(events=int(sys.argv[1])), kind="parquet")
# Not getrusage's: that begins at the size of the process that forked this one.
print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024)
"""


@pytest.mark.slow
def test_memory_does_not_depend_on_the_number_of_events():
    few, many = (
        float(subprocess.run([sys.executable, "-c", PEAK, str(n)], capture_output=True, text=True, check=True).stdout)
        for n in (1_000_000, 4_000_000)
    )
    assert many < few * 1.25
    assert many < 1000
