"""Events are checked one by one, queued once each, and the answer accounts for all of them."""

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
import tiny_system
from hypothesis import given, settings
from hypothesis import strategies as st

from twinloop.contracts.api import EventsAnswer, Problem
from twinloop.errors import NotFoundError
from twinloop.serving.collect import MAX_EVENT_BYTES, collect
from twinloop.serving.lambdas import answer


class Queue:
    def __init__(self, refuses=()):
        self.bodies = []
        self.refuses = set(refuses)

    def send(self, bodies):
        refused = {place for place, body in enumerate(bodies) if json.loads(body)["event"]["event_id"] in self.refuses}
        self.bodies += [body for place, body in enumerate(bodies) if place not in refused]
        return refused

    @property
    def ids(self):
        return [json.loads(body)["event"]["event_id"] for body in self.bodies]


def load(name):
    if name != "video":
        raise NotFoundError(f"there is no system {name!r}")
    return tiny_system.SYSTEM


def event(event_id="e1", **changes):
    facts = {"event_id": event_id, "type": "like", "time": "2026-01-31T12:00:00Z", "user_id": "u", "item_id": "i"}
    return {name: value for name, value in (facts | changes).items() if value is not None}


def send(body, queue=None, *, path="/v1/video/events", method="POST", **how):
    queue = queue if queue is not None else Queue()
    proxy = {
        "httpMethod": method,
        "path": path,
        "headers": {"Content-Type": "application/json"},
        "body": body if isinstance(body, str) else json.dumps(body),
    }
    response, counts = answer(proxy, lambda: lambda request: collect(request, load, queue, **how))
    return response["statusCode"], json.loads(response["body"]), counts


def test_a_batch_is_queued_as_it_came():
    queue = Queue()
    events = [event("e1", colour="red"), event("e2", type="watch", watch_s=12.5)]
    status, body, counts = send({"events": events}, queue)
    assert (status, body) == (202, {"accepted": 2, "rejected": []})
    assert [json.loads(sent) for sent in queue.bodies] == [{"system": "video", "event": one} for one in events]
    assert counts["Accepted"] == 2


ARRIVAL = datetime(2026, 1, 31, 12, 0, 0, 789_123, tzinfo=UTC)
ARRIVAL_MS = int(ARRIVAL.replace(microsecond=789_000).timestamp() * 1000)


@pytest.mark.parametrize(
    "time",
    [
        (ARRIVAL + timedelta(milliseconds=1)).isoformat(),
        (ARRIVAL + timedelta(hours=8)).replace(tzinfo=None).isoformat(),  # Singapore's clock, without its zone
        ARRIVAL_MS + 60_000,
        str(ARRIVAL_MS + 60_000),
    ],
)
def test_what_is_dated_ahead_of_the_clock_happened_when_it_arrived(time):
    queue = Queue()
    sent = [event("e1", time=time, colour="red"), event("e2")]
    status, body, _ = send({"events": sent}, queue, clock=lambda: ARRIVAL)
    assert (status, body["accepted"]) == (202, 2)
    assert [json.loads(one)["event"] for one in queue.bodies] == [event("e1", time=ARRIVAL_MS, colour="red"), sent[1]]


@pytest.mark.parametrize("back", [timedelta(0), timedelta(milliseconds=1), timedelta(days=400)])
def test_what_is_dated_in_the_past_keeps_its_time_as_it_was_written(back):
    queue, sent = Queue(), event(time=(ARRIVAL - back).isoformat())
    assert send({"events": [sent]}, queue, clock=lambda: ARRIVAL)[0] == 202
    assert json.loads(queue.bodies[0])["event"] == sent


def test_a_bad_event_does_not_hold_up_the_others():
    queue = Queue()
    bad = event("e2", type="applause", item_id=None)
    status, body, _ = send({"events": [event("e1"), bad, event("e3")]}, queue)
    assert (status, body["accepted"], queue.ids) == (202, 2, ["e1", "e3"])
    (rejected,) = body["rejected"]
    assert (rejected["index"], rejected["event_id"], rejected["retry"]) == (1, "e2", False)
    assert {fault["field"] for fault in rejected["errors"]} == {"type", "item_id"}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"event_id": None}, "event_id"),
        ({"event_id": ""}, "event_id"),
        ({"time": "yesterday"}, "time"),
        ({"time": "1870-01-01T00:00:00Z"}, "time"),
        ({"time": "2970-01-01T00:00:00Z"}, "time"),
        ({"time": 1e300}, "time"),
        ({"user_id": ["u"]}, "user_id"),
        ({"type": "watch", "watch_s": -1}, "watch_s"),
        ({"rating": "good"}, "rating"),
        ({"context": "x" * MAX_EVENT_BYTES}, ""),
    ],
)
def test_when_nothing_is_valid_the_request_is_wrong(changes, field):
    status, problem, _ = send({"events": [event(**changes)]})
    assert status == 400
    assert problem["errors"][0]["field"] == f"events.0.{field}".rstrip(".")


def test_an_event_sent_twice_is_queued_once_and_accepted_twice():
    queue = Queue()
    status, body, _ = send({"events": [event("e1"), event("e2"), event("e1")]}, queue)
    assert (status, body["accepted"], queue.ids) == (202, 3, ["e1", "e2"])


def test_what_the_queue_did_not_take_is_told_for_another_try():
    queue = Queue(refuses={"e2"})
    status, body, _ = send({"events": [event("e1"), event("e2"), event("e2")]}, queue)
    assert (status, body["accepted"]) == (202, 1)
    assert [(one["index"], one["event_id"], one["retry"]) for one in body["rejected"]] == [
        (1, "e2", True),
        (2, "e2", True),
    ]


def test_a_queue_that_takes_nothing_is_a_503():
    status, problem, _ = send({"events": [event("e1")]}, Queue(refuses={"e1"}))
    assert status == 503
    assert "send them again" in problem["detail"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "events"),
        ({"events": []}, "events"),
        ({"events": [event()] * 501}, "events"),
        ({"events": "e1"}, "events"),
        ({"events": [5]}, "events.0"),
        ({"events": [event()], "more": 1}, "more"),
        ([event()], ""),
    ],
)
def test_a_body_that_is_no_batch_is_refused(body, field):
    status, problem, _ = send(body)
    assert status == 400
    assert field in {fault["field"] for fault in problem["errors"]}


@pytest.mark.parametrize("body", ["{", '{"events": [NaN]}', '{"events": [{"event_id": "\\ud800"}]}', "\x00"])
def test_a_body_that_is_no_json_is_refused(body):
    status, problem, _ = send(body)
    assert status == 400
    assert "not JSON" in problem["detail"]


def test_a_large_body_is_refused():
    assert send({"events": [event(context={"x": "y" * 300_000})]})[0] == 413


def test_other_systems_paths_and_methods():
    assert send({"events": [event()]}, path="/v1/radio/events")[0] == 404
    assert send({"events": [event()]}, path="/v1/events")[0] == 404
    assert send({"events": [event()]}, method="GET")[0] == 405


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
FIELDS = st.sampled_from([*tiny_system.SYSTEM.tables["events"].model_fields, "more"])
EVENTS = st.builds(lambda change: event() | change, st.dictionaries(FIELDS, JSON, max_size=3))


@settings(max_examples=300)
@given(st.lists(EVENTS, max_size=6).map(lambda events: {"events": events}) | JSON)
def test_no_batch_makes_a_500_and_every_event_is_accounted_for(body):
    queue = Queue()
    status, content, _ = send(json.dumps(body), queue)
    assert status in {202, 400}
    if status == 400:
        Problem.model_validate(content)
        assert not queue.bodies
        return
    told = EventsAnswer.model_validate(content)
    assert told.accepted + len(told.rejected) == len(body["events"])
    assert len(queue.ids) == len(set(map(str, queue.ids)))
    assert all(a.index < b.index for a, b in pairwise(told.rejected))
    for sent in queue.bodies:
        sent.encode("ascii")  # what a queue takes whatever the text


@pytest.mark.parametrize("digits", [400, 5000])
def test_a_number_of_many_digits(digits):
    status, _, _ = send('{"events": [{"event_id": "e", "rating": %s}]}' % ("9" * digits))
    assert status == 400
