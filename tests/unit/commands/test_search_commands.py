"""What search's own commands tell."""

import json
from datetime import UTC, datetime

import pytest
import typer
from deployed_in_memory import MemoryDeployment

from twinloop.commands import search


@pytest.fixture
def place(monkeypatch):
    made = MemoryDeployment()
    monkeypatch.setattr(search, "deployment", lambda: made)
    return made


def line(query, **changes):
    row = {"system": "search", "query": query, "offset": 0, "zero": False, "filtered": [], "corrections": []}
    return json.dumps(row | changes)


def test_searches_that_found_nothing_are_reported(place, capsys):
    lines = [line("red shoes"), line("Zeppelin", zero=True), line("zeppelin", zero=True)]
    lines += [line("shoos", corrections=[["shoos", "shoes"]]), line("hat", zero=True, filtered=["brand"])]
    place.store.write(f"predictions/search/{datetime.now(UTC):%Y/%m/%d/%H}/a", "\n".join(lines).encode())
    search.zero_results(days=7, most=20)
    told = capsys.readouterr().out
    assert "5 searches, 3 found nothing (60.0%), 1 with filters" in told
    assert "2  zeppelin" in told
    assert "1  shoos -> shoes" in told


def test_an_empty_log_says_so(place, capsys):
    with pytest.raises(typer.Exit):
        search.zero_results(days=7, most=20)
    assert "the log of the last 7 days holds no search" in capsys.readouterr().err
