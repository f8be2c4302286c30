"""Requests to a deployed API."""

from __future__ import annotations

import json
import shlex
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from twinloop.commands.target import Deployment
from twinloop.errors import UnavailableError


def ask(place: Deployment, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """POST a request and return the answer; raises UnavailableError with what came instead."""
    url = f"{place.api_url}{path}"
    headers = {"Content-Type": "application/json", "x-api-key": place.api_key}
    request = urllib.request.Request(url, json.dumps(dict(body)).encode(), headers)  # noqa: S310 - the deployment's address
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            found: dict[str, Any] = json.loads(answer.read())
            return found
    except urllib.error.HTTPError as error:
        said = error.read(2_000).decode(errors="replace")
        raise UnavailableError(f"{url} answered {error.code}: {said}") from error
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise UnavailableError(f"{url} did not answer as it should: {error}") from error


def curl(place: Deployment, path: str, body: Mapping[str, Any]) -> str:
    """Return the same request as a command to paste."""
    return (
        f"curl -s {place.api_url}{path} -H 'x-api-key: {place.api_key}' "
        f"-H 'content-type: application/json' -d {shlex.quote(json.dumps(dict(body)))}"
    )
