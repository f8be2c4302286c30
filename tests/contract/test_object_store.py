"""What every ObjectStore promises, for each one there is."""

import threading
import uuid
from datetime import UTC, datetime

import boto3
import pytest
from moto.s3.responses import S3Response
from moto.server import ThreadedMotoServer

from twinloop.aws.objects import S3ObjectStore
from twinloop.errors import AlreadyExistsError, ConflictError, NotFoundError, UnavailableError
from twinloop.ports import MemoryObjectStore
from twinloop.registry.registry import Registry
from twinloop.registry.versions import Versions

RACERS = 12


@pytest.fixture(scope="module")
def s3():
    """A real HTTP server, because racing writers must race on a socket, not on a patched client."""
    # S3 compares and writes an object in one step; moto does it in two, between which another thread may write.
    write, one_at_a_time = S3Response._key_response_put, threading.Lock()

    def put(*arguments):
        with one_at_a_time:
            return write(*arguments)

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(S3Response, "_key_response_put", put)
        server.start()
        host, port = server.get_host_and_port()
        client = boto3.client(
            "s3",
            endpoint_url=f"http://{host}:{port}",
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )
        yield client
        client.close()
        server.stop()


@pytest.fixture(params=["memory", "s3"])
def store(request):
    if request.param == "memory":
        return MemoryObjectStore()
    client = request.getfixturevalue("s3")
    bucket = f"data-{uuid.uuid4().hex}"
    client.create_bucket(Bucket=bucket)
    return S3ObjectStore(bucket, client)


def race(work):
    """Run `work(n)` in RACERS threads at once; returns [(n, result or error)]."""
    start, outcomes = threading.Barrier(RACERS), []

    def run(number):
        start.wait()
        try:
            outcomes.append((number, work(number)))
        except ConflictError as error:
            outcomes.append((number, error))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(RACERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == RACERS
    return outcomes


def winners(outcomes):
    return [number for number, outcome in outcomes if not isinstance(outcome, ConflictError)]


def test_reads_what_was_written(store):
    etag = store.write("a/b.json", b"\x00\xff", content_type="application/json")
    found = store.read("a/b.json")
    assert (found.key, found.body, found.etag) == ("a/b.json", b"\x00\xff", etag)


def test_an_empty_object_is_an_object(store):
    store.write("a/empty", b"")
    assert store.read("a/empty").body == b""


def test_what_is_not_there_is_not_found(store):
    with pytest.raises(NotFoundError):
        store.read("nothing")


def test_write_overwrites_and_changes_the_etag(store):
    first = store.write("k", b"1")
    assert store.write("k", b"2") != first
    assert store.read("k").body == b"2"


def test_write_new_writes_once(store):
    store.write_new("k", b"1")
    with pytest.raises(AlreadyExistsError):
        store.write_new("k", b"2")
    assert store.read("k").body == b"1"


def test_replace_needs_the_current_etag(store):
    first = store.write("k", b"1")
    second = store.replace("k", b"2", etag=first)
    with pytest.raises(ConflictError):
        store.replace("k", b"3", etag=first)
    store.replace("k", b"4", etag=second)
    assert store.read("k").body == b"4"


def test_replace_of_nothing_is_a_conflict_or_not_found(store):
    with pytest.raises((ConflictError, NotFoundError)):
        store.replace("nothing", b"1", etag='"0"')
    with pytest.raises(NotFoundError):
        store.read("nothing")


def test_keys_are_in_order_and_under_the_prefix(store):
    for key in ("p/b", "p/a/2", "p/a/10", "q/a", "p"):
        store.write(key, b"x")
    assert list(store.keys("p/")) == ["p/a/10", "p/a/2", "p/b"]
    assert list(store.keys("none/")) == []
    assert set(store.keys("")) == {"p", "p/a/10", "p/a/2", "p/b", "q/a"}


def test_more_keys_than_one_page_holds(store):
    for number in range(1001):
        store.write(f"many/{number:05d}", b"")
    assert list(store.keys("many/")) == [f"many/{number:05d}" for number in range(1001)]


def test_keys_with_odd_characters(store):
    key = "raw/video/events/jürgen 1+2=3 & co?.csv"
    store.write(key, b"x")
    assert list(store.keys("raw/")) == [key]
    assert store.read(key).body == b"x"


def test_delete_is_harmless_twice(store):
    store.write("k", b"1")
    store.delete("k")
    store.delete("k")
    with pytest.raises(NotFoundError):
        store.read("k")


def test_of_racing_first_writers_exactly_one_wins(store):
    outcomes = race(lambda number: store.write_new("race", b"%d" % number))
    (winner,) = winners(outcomes)
    assert store.read("race").body == b"%d" % winner
    assert all(isinstance(o, AlreadyExistsError) for n, o in outcomes if n != winner)


def test_of_racing_replacers_exactly_one_wins(store):
    etag = store.write("race", b"start")
    (winner,) = winners(race(lambda number: store.replace("race", b"%d" % number, etag=etag)))
    assert store.read("race").body == b"%d" % winner


def test_a_counter_under_contention_loses_no_increment(store):
    store.write("counter", b"0")

    def increment(_):
        while True:
            found = store.read("counter")
            try:
                return store.replace("counter", b"%d" % (int(found.body) + 1), etag=found.etag)
            except ConflictError:
                continue

    race(increment)
    assert store.read("counter").body == b"%d" % RACERS


def test_racing_registrations_of_the_same_content_agree_on_one_version(store):
    files = {"model.onnx": b"weights" * 1000, "manifest.json": b"{}"}
    outcomes = race(lambda _: Registry(store, "video").register_component("retrieval", files))
    assert len({version for _, version in outcomes}) == 1
    assert Registry(store, "video").read_component("retrieval", outcomes[0][1]) == files


def test_a_discarded_version_is_gone_and_written_anew_under_its_id(store):
    files = {"model.onnx": b"weights", "manifest.json": b"{}"}
    version = Registry(store, "video").register_component("retrieval", files)
    versions = Versions(store, "video", "retrieval", lambda: datetime(2026, 3, 1, tzinfo=UTC))
    versions.discard(version)
    versions.discard(version)
    assert versions.listed() == {}
    with pytest.raises(NotFoundError, match="discarded since"):
        Registry(store, "video").read_component("retrieval", version)
    assert Registry(store, "video").register_component("retrieval", files) == version
    assert Registry(store, "video").read_component("retrieval", version) == files


def test_racing_promoters_form_one_chain(store):
    registry = Registry(store, "video")
    versions = []
    for number in range(RACERS):
        component = registry.register_component("retrieval", {"model.onnx": b"%d" % number})
        draft = registry.draft_release(rung="r", snapshot_id="s", schema_hash="h", components={"retrieval": component})
        versions.append(registry.register_release(draft, {}))
    outcomes = race(lambda number: Registry(store, "video").promote(versions[number], why="race", by=f"racer {number}"))
    history = registry.history()
    assert {move.by for move in history} == {f"racer {number}" for number in winners(outcomes)}
    assert [move.came_from for move in history] == [None, *(move.version for move in history[:-1])]
    assert registry.alias("champion").version == history[-1].version
    assert all("by racer" in str(o) for _, o in outcomes if isinstance(o, ConflictError))


def test_a_bucket_that_is_not_there_is_unavailable(s3):
    with pytest.raises(UnavailableError):
        S3ObjectStore(f"data-{uuid.uuid4().hex}", s3).write("k", b"")


def test_s3_that_does_not_answer_is_unavailable(s3):
    with pytest.raises((UnavailableError, NotFoundError)):
        list(S3ObjectStore(f"data-{uuid.uuid4().hex}", s3).keys(""))
