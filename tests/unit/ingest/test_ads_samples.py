"""The samples of ads' raw data become what they show."""

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from twinloop import systems
from twinloop.contracts.events import ADS_TABLES
from twinloop.ingest.columns import table_of

SAMPLES = Path(__file__).parents[3] / "events" / "ads"


@pytest.fixture
def ads(world):
    world.name, world.system = "ads", systems.load("ads")
    return world


def deliver(world, name):
    return world.deliver(name, (SAMPLES / name).read_bytes())


def test_rows_are_typed_and_go_to_their_dates(ads):
    made = deliver(ads, "events/valid.jsonl")
    assert made.rows == {"2025-03-01": 3, "2025-03-02": 1}
    rows = {row["event_id"]: row for row in ads.rows()}
    assert (rows["a-1001"]["bid"], rows["a-1001"]["clicked"]) == (0.42, None)
    assert json.loads(rows["a-1001"]["context"]) == {"page": "home", "device": "phone"}
    assert (rows["a-1003"]["clicked"], json.loads(rows["a-1003"]["attributes"])) == (0, {"creative": "banner"})
    assert (rows["a-1004"]["user_id"], rows["a-1004"]["clicked"], rows["a-1004"]["bid"]) == ("2", 1, 1.0)
    assert rows["a-1004"]["extra"] == '{"experiment":"spring"}'


def test_late_rows_land_in_their_own_date(ads):
    assert deliver(ads, "events/late.jsonl").rows == {"2025-01-15": 1, "2025-03-02": 1}


def test_what_comes_again_brings_nothing_but_its_own_id(ads):
    deliver(ads, "events/valid.jsonl")
    before = {row["event_id"]: row for row in ads.rows()}
    assert not deliver(ads, "events/duplicate.jsonl").quarantined
    rows = ads.rows()
    assert {row["event_id"] for row in rows} - set(before) == {"a-1006"}
    assert all(row == before[row["event_id"]] for row in rows if row["event_id"] in before)


def test_poison_is_quarantined_line_by_line(ads):
    made = deliver(ads, "events/poison.jsonl")
    assert ads.ids() == ["a-2001", "a-2010"]
    assert [entry["line"] for entry in ads.quarantine()] == list(range(2, 11))
    assert sum(made.quarantined.values()) == 9


def test_ads_and_users_are_kept_with_what_is_said_of_them(ads):
    assert deliver(ads, "items/valid.jsonl").rows == {"2025-06-01": 3}
    assert deliver(ads, "users/valid.csv").rows == {"2025-06-01": 3}
    first, second, third = ads.rows("items")
    assert json.loads(first["attributes"]) == {"category": "travel", "daily_budget": 25}
    assert json.loads(second["extra"]) == {"landing": "https://example.com/11"}
    assert (third["advertiser_id"], third["attributes"]) == (None, None)
    assert json.loads(ads.rows("users")[0]["extra"]) == {"country": "PT", "age_group": "25-34"}


@pytest.mark.parametrize("name", ADS_TABLES)
def test_whole_columns_are_checked_and_not_rows(name):
    assert table_of(name, ADS_TABLES[name]).exact


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_a_click_that_says_whether_it_was_clicked_is_no_second_showing(ads, form):
    common = {"time": "2025-03-01T10:00:00Z", "user_id": "u", "item_id": "a"}
    rows = [{"event_id": f"{kind}-{clicked}", "type": kind, "clicked": clicked} | common for kind, clicked in TOLD]
    body = io.BytesIO()
    if form == "jsonl":
        body.write("\n".join(map(json.dumps, rows)).encode())
    elif form == "csv":
        lines = [",".join(rows[0]), *(",".join("" if v is None else str(v) for v in row.values()) for row in rows)]
        body.write("\n".join(lines).encode())
    else:
        pq.write_table(pa.Table.from_pylist(rows), body)
    ads.deliver(f"events/told.{form}", body.getvalue())
    assert sorted(ads.ids()) == ["click-None", "impression-0", "impression-1", "impression-None"]
    assert len(ads.quarantine()) == 2
    for entry in ads.quarantine():
        assert "clicked is told only where type is impression, not click" in json.dumps(entry)


TOLD = [(kind, clicked) for kind in ("impression", "click") for clicked in (None, 0, 1)]
