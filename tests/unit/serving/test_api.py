"""The HTTP face: what is taken, what is refused and how, and that nothing makes it fall."""

import base64
import json

import pytest
import tiny_system
from hypothesis import given, settings
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator

from twinloop.contracts.api import Problem, RecommendationsAnswer
from twinloop.contracts.history import HistoryEntry
from twinloop.errors import ConflictError, IntegrityError
from twinloop.features.stores import MemoryOnlineStore
from twinloop.ports import MemoryObjectStore
from twinloop.serving.http import MAX_BODY_BYTES
from twinloop.serving.lambdas import answer
from twinloop.serving.problems import problem_of
from twinloop.serving.service import make_app

PATH = "/v1/video/recommendations"


def make():
    objects, store = MemoryObjectStore(), MemoryOnlineStore()
    tiny_system.promote(objects, tiny_system.register(objects))
    store.merge("video", "u1", [HistoryEntry("i2", 1000, 1.0)])
    return make_app(tiny_system.SYSTEM, objects, store, None, new_id=lambda: "p1")


APP = make()


def send(body, *, path=PATH, method="POST", encoded=False, app=lambda: APP, **headers):
    event = {
        "httpMethod": method,
        "path": path,
        "headers": {"Content-Type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()},
        "body": body if body is None or isinstance(body, str) else json.dumps(body),
        "isBase64Encoded": encoded,
    }
    response, _ = answer(event, app)
    assert isinstance(response["body"], str)
    return response["statusCode"], json.loads(response["body"]), response["headers"]


def test_an_answer():
    status, body, headers = send({"user_id": "u1", "limit": 2, "include": ["titles"], "context": {"device": "tv"}})
    assert status == 200
    assert headers["Content-Type"] == "application/json"
    version = body.pop("model_version")
    assert version.startswith("20260131T120000-")
    assert body == {
        "items": [
            {"item_id": "i3", "rank": 1, "score": -1.0, "title": "Title of i3"},
            {"item_id": "i4", "rank": 2, "score": -2.0, "title": "Title of i4"},
        ],
        "arm": "champion",
        "prediction_id": "p1",
        "degraded": False,
        "cold": False,
        "preset": "balanced",
    }


@pytest.mark.parametrize(
    ("body", "field", "reason"),
    [
        ({}, "user_id", "required"),
        ({"user_id": "u", "limitt": 5}, "limitt", "unknown field"),
        ({"user_id": 5}, "user_id", "valid string"),
        ({"user_id": None}, "user_id", "valid string"),
        ({"user_id": ""}, "user_id", "at least 1 char"),
        ({"user_id": "u" * 257}, "user_id", "at most 256 char"),
        ({"user_id": "u", "limit": "5"}, "limit", "valid integer"),
        ({"user_id": "u", "limit": 5.5}, "limit", "valid integer"),
        ({"user_id": "u", "limit": True}, "limit", "valid integer"),
        ({"user_id": "u", "limit": 0}, "limit", "greater than or equal to 1"),
        ({"user_id": "u", "limit": 101}, "limit", "less than or equal to 100"),
        ({"user_id": "u", "limit": 10**400}, "limit", ""),
        ({"user_id": "u", "include": "titles"}, "include", "valid array"),
        ({"user_id": "u", "include": ["prices"]}, "include.0", "'titles' or 'reasons'"),
        ({"user_id": "u", "exclude": ["a", 5]}, "exclude.1", "valid string"),
        ({"user_id": "u", "exclude": ["a"] * 1001}, "exclude", "at most 1000 items"),
        ({"user_id": "u", "context": []}, "context", "object"),
        ({"user_id": "u", "preset": "loud"}, "preset", "not one of balanced, watch_time, fresh, diverse"),
        ({"user_id": "u", "preset": ""}, "preset", "at least 1 char"),
        ({"user_id": "u", "preset": 1}, "preset", "valid string"),
        ({"user_id": "u", "explore": "no"}, "explore", "valid boolean"),
        ({"user_id": "u", "context": {"deep": {"er": 1}}}, "context.deep", ""),
        ({"user_id": "u", "context": {str(n): n for n in range(51)}}, "context", "at most 50 items"),
        ({"user_id": "u", "context": {"text": "x" * 501}}, "context.text", "at most 500 char"),
        ([], "", "object"),
        ("null", "", "object"),
        ('{"user_id": "u"', "", "not JSON"),
        ("user_id=u", "", "not JSON"),
        ('{"user_id": "u", "context": {"x": NaN}}', "context.x", "finite"),
        ('{"user_id": "\\ud800"}', "", "not JSON"),
        ("[" * 5000 + "]" * 5000, "", "not JSON"),
    ],
)
def test_a_bad_body_is_told_field_and_reason(body, field, reason):
    status, problem, headers = send(body)
    assert status == 400
    assert headers["Content-Type"] == "application/problem+json"
    assert Problem.model_validate(problem).status == 400
    fitting = [fault for fault in problem["errors"] if fault["field"].startswith(field) and reason in fault["reason"]]
    assert fitting, problem["errors"]


def test_every_fault_is_told_at_once_up_to_a_bound():
    _, problem, _ = send({"user_id": 1, "limit": "x", "more": 1})
    assert {fault["field"] for fault in problem["errors"]} == {"user_id", "limit", "more"}
    assert "(and 2 more)" in problem["detail"]
    _, problem, _ = send({"user_id": "u", "exclude": [1] * 900})
    assert len(problem["errors"]) == 20


def test_values_are_not_repeated():
    _, problem, _ = send({"user_id": {"password": "secret"}, "secret-too": 1})
    assert "password" not in json.dumps(problem)


@pytest.mark.parametrize("body", [None, "", "  \n"])
def test_a_missing_body(body):
    status, problem, _ = send(body)
    assert status == 400
    assert "no body" in problem["detail"]


def test_a_large_body_is_refused_whether_encoded_or_not():
    large = json.dumps({"user_id": "u", "context": {"x": "y" * MAX_BODY_BYTES}})
    assert send(large)[0] == 413
    assert send(base64.b64encode(large.encode()).decode(), encoded=True)[0] == 413
    assert send("x" * 10_000_000)[0] == 413
    status, problem, _ = send("ü" * (MAX_BODY_BYTES // 2 + 1))
    assert status == 413
    assert "262144 bytes" in problem["detail"]


def test_base64_bodies():
    good = base64.b64encode(b'{"user_id": "u1"}').decode()
    assert send(good, encoded=True)[0] == 200
    assert send("%%%", encoded=True)[0] == 400
    assert send(base64.b64encode(b"\xff\xfe\x00").decode(), encoded=True)[0] == 400


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "json"])
def test_another_content_type_is_refused(kind):
    status, problem, _ = send({"user_id": "u1"}, Content_Type=kind)
    assert status == 415
    assert "application/json" in problem["detail"]


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/merge-patch+json"]
)
def test_json_has_several_names(kind):
    assert send({"user_id": "u1"}, Content_Type=kind)[0] == 200


def test_a_compressed_body_is_refused():
    assert send({"user_id": "u1"}, Content_Encoding="gzip")[0] == 415


def test_other_paths_and_methods():
    assert send({}, path="/v1/video/nothing")[0] == 404
    status, _, headers = send({}, method="GET")
    assert status == 405
    assert headers["Allow"] == "POST"
    assert send({"user_id": "u1"}, path="/prod" + PATH + "/")[0] == 200


def test_nobody_is_shown_our_insides(caplog):
    def broken():
        raise KeyError("TWINLOOP_BUCKET")

    status, problem, _ = send({"user_id": "u1"}, app=broken)
    assert status == 500
    assert "BUCKET" not in json.dumps(problem)
    assert "TWINLOOP_BUCKET" in caplog.text


def test_errors_have_one_status_each():
    assert problem_of(ConflictError("x")).status == 409
    assert problem_of(IntegrityError("s3://secret")).status == 500
    assert b"secret" not in problem_of(IntegrityError("s3://secret")).body


def test_without_a_model_503_says_what_to_do():
    app = make_app(tiny_system.SYSTEM, MemoryObjectStore(), None, None)
    status, problem, headers = send({"user_id": "u1"}, app=lambda: app)
    assert status == 503
    assert "twinloop learn video" in problem["detail"]
    assert headers["Retry-After"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
FIELDS = st.sampled_from(["user_id", "limit", "context", "include", "exclude", "more"])
REQUESTS = st.fixed_dictionaries(
    {"user_id": st.text(min_size=1, max_size=256)},
    optional={
        "limit": st.integers(1, 100),
        "context": st.dictionaries(
            st.text(min_size=1, max_size=100),
            st.none()
            | st.booleans()
            | st.integers()
            | st.text(max_size=500)
            | st.floats(allow_nan=False, allow_infinity=False),
            max_size=5,
        ),
        "include": st.lists(st.sampled_from(["titles", "reasons"]), max_size=3),
        "exclude": st.lists(st.text(min_size=1, max_size=256), max_size=5),
    },
)


@settings(max_examples=300)
@given(
    st.one_of(st.text(), JSON.map(json.dumps), st.dictionaries(FIELDS, JSON).map(json.dumps), REQUESTS.map(json.dumps))
)
def test_no_body_makes_a_500(body):
    status, content, _ = send(body)
    assert status in {200, 400, 413}
    (RecommendationsAnswer if status == 200 else Problem).model_validate(content)


@settings(max_examples=100)
@given(REQUESTS)
def test_every_request_that_fits_the_contract_is_answered(request):
    # A lone surrogate is no character; JSON that carries one is refused before it gets here.
    assert send(request)[0] == (200 if _encodable(request) else 400)


@settings(max_examples=100)
@given(st.binary())
def test_no_bytes_make_a_500(body):
    assert send(base64.b64encode(body).decode(), encoded=True)[0] in {200, 400}


@settings(max_examples=100)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "httpMethod": st.none() | st.text(),
            "path": st.none() | st.text(),
            "headers": st.none() | st.dictionaries(st.text(), st.text()),
            "body": st.none() | st.text(),
            "isBase64Encoded": st.none() | st.booleans(),
        },
    )
)
def test_no_proxy_event_makes_a_500(event):
    assert answer(event, lambda: APP)[0]["statusCode"] in {400, 404, 405}


def test_the_openapi_document_is_valid_and_tells_of_everything():
    status, document, _ = send(None, path="/v1/openapi.json", method="GET")
    assert status == 200
    OpenAPIV31SpecValidator(document).validate()
    assert send(None, path="/v1/video/openapi.json", method="GET")[1] == document
    assert set(document["paths"]) == {PATH, "/v1/video/events"}
    fields = document["components"]["schemas"]["RecommendationsRequest"]["properties"]
    assert set(fields) == {"user_id", "limit", "context", "time_ms", "include", "exclude", "preset", "explore"}
    assert fields["preset"]["enum"] == ["balanced", "watch_time", "fresh", "diverse", None]
    assert "`diverse`: Prefers items unlike each other." in fields["preset"]["description"]
    assert document["components"]["schemas"]["RecommendationsRequest"]["additionalProperties"] is False


def _encodable(value):
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
