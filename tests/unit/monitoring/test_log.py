"""Where the log of answers lies, and which of it is listed."""

from datetime import UTC, datetime, timedelta, timezone

from twinloop.monitoring.log import days, delivered_after, delivered_before, log_keys
from twinloop.ports import MemoryObjectStore

NOW = datetime(2026, 3, 1, 0, 30, tzinfo=UTC)


def test_days_are_those_of_utc():
    east = timezone(timedelta(hours=5))
    assert [f"{day}" for day in days(datetime(2026, 3, 1, 4, tzinfo=east), NOW)] == ["2026-02-28", "2026-03-01"]
    assert len(days(NOW, NOW)) == 1


def test_a_key_tells_when_it_was_delivered_or_nothing():
    key = "predictions/ads/2026/02/28/23/stream-1-2026-02-28-23-59-59-abc.jsonl"
    assert delivered_before(key, NOW)
    assert not delivered_after(key, NOW)
    assert delivered_after(key, NOW - timedelta(hours=1))
    assert not delivered_before("predictions/ads/2026/02/28/23/a", NOW)
    assert not delivered_after("predictions/ads/2026/02/28/23/a", NOW)


def test_the_latest_comes_first_and_other_systems_and_days_are_left_alone():
    store = MemoryObjectStore()
    for key in ("ads/2026/02/27/10/a", "ads/2026/02/28/10/a", "ads/2026/02/28/23/a", "ads/2026/03/01/00/a"):
        store.write(f"predictions/{key}", b"")
    store.write("predictions/search/2026/03/01/00/a", b"")
    store.write("predictions/ads/2026/02/28/00/s-1-2026-02-28-00-10-00-x.jsonl", b"")
    found = [key.removeprefix("predictions/ads/2026/") for key in log_keys(store, "ads", NOW - timedelta(days=1), NOW)]
    assert found == ["03/01/00/a", "02/28/23/a", "02/28/10/a"]
