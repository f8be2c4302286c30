"""Which deployment a command talks to, and where its API is."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from twinloop.commands import local, target
from twinloop.commands.target import Deployment, enter
from twinloop.errors import BadInputError

PLACE = Deployment("twinloop", {"ApiUrl": "https://a1.execute-api.eu-west-1.amazonaws.com/prod", "ApiId": "a1"})
CLOUD = {
    "AWS_ENDPOINT_URL": "http://127.0.0.1:4566",
    "AWS_ACCESS_KEY_ID": "test",
    "TWINLOOP_API_URL": "http://x/{ApiId}",
}


@pytest.fixture(autouse=True)
def shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell that has a profile and knows of no local cloud; `enter` changes what is put back afterwards."""
    monkeypatch.setattr(target, "os", SimpleNamespace(environ={"AWS_PROFILE": "work"}))
    monkeypatch.setattr(local, "environment", lambda: dict(CLOUD))
    monkeypatch.setattr(target, "_on_aws", False)


def test_the_api_is_where_the_stack_says() -> None:
    assert PLACE.api_url == "https://a1.execute-api.eu-west-1.amazonaws.com/prod"


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("https://api.example.com/", "https://api.example.com"),
        ("http://127.0.0.1:4566/restapis/{ApiId}/x", "http://127.0.0.1:4566/restapis/a1/x"),
        ("", "https://a1.execute-api.eu-west-1.amazonaws.com/prod"),
    ],
)
def test_another_way_to_the_api_can_be_named(given: str, url: str) -> None:
    target.os.environ["TWINLOOP_API_URL"] = given
    assert PLACE.api_url == url


@pytest.mark.parametrize("given", ["http://{Nothing}", "http://{", "http://{0}", "http://{ApiId.x}"])
def test_a_way_that_names_no_output_is_refused(given: str) -> None:
    target.os.environ["TWINLOOP_API_URL"] = given
    with pytest.raises(BadInputError, match="none of the outputs ApiId, ApiUrl"):
        _ = PLACE.api_url


def test_a_local_cloud_that_is_up_is_entered_whole() -> None:
    enter()
    assert target.os.environ == CLOUD  # and no profile, whose credentials would win
    assert PLACE.api_url == "http://x/a1"


def test_the_same_endpoint_named_by_hand_is_the_same_place() -> None:
    target.os.environ["AWS_ENDPOINT_URL"] = CLOUD["AWS_ENDPOINT_URL"]
    enter()
    assert target.os.environ == CLOUD


@pytest.mark.parametrize("running", [True, False])
def test_whoever_names_another_endpoint_goes_there(running: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "environment", lambda: dict(CLOUD) if running else {})
    target.os.environ["AWS_ENDPOINT_URL"] = "http://elsewhere"
    enter()
    assert target.os.environ == {"AWS_PROFILE": "work", "AWS_ENDPOINT_URL": "http://elsewhere"}


def test_aws_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "_on_aws", True)
    enter()
    assert target.os.environ == {"AWS_PROFILE": "work"}
