"""The SageMaker API over HTTP: what we can do we do, record keeping is moto's, the rest is refused."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from moto.backends import get_backend
from moto.moto_server.werkzeug_app import create_backend_app

from twinloop_local.executor.jobs import Jobs
from twinloop_local.executor.records import JobRecord
from twinloop_local.executor.refusals import ApiError, NameTaken, Refused
from twinloop_local.executor.validation import check
from twinloop_local.settings import ACCOUNT

Environ = dict[str, Any]
StartResponse = Callable[..., Any]

# Plain reads and tags of records: nothing about them could be faked.
_MOTO = frozenset({"DescribeTrainingJob", "ListTrainingJobs", "AddTags", "DeleteTags", "ListTags"})
_REGION = re.compile(r"Credential=[^/]+/\d+/([a-z0-9-]+)/")
_LARGEST_REQUEST = 4 * 1024 * 1024
_HEADERS = [("Content-Type", "application/x-amz-json-1.1")]


class ExecutorApp:
    """A WSGI application."""

    def __init__(self, jobs: Jobs, region: str) -> None:
        self._jobs = jobs
        self._region = region
        self._moto = create_backend_app("sagemaker")
        self._lock = threading.RLock()  # moto's records are plain dictionaries, and jobs write to them

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/health":
            return _answer(start_response, "200 OK", {"status": "ok"})
        try:
            return self._operate(environ, start_response)
        except ApiError as error:
            return _answer(start_response, "400 Bad Request", {"__type": error.code, "message": str(error)})

    def _operate(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        operation = str(environ.get("HTTP_X_AMZ_TARGET", "")).removeprefix("SageMaker.")
        if environ["PATH_INFO"] != "/" or not operation:
            raise Refused("not offered by the local executor: it runs training jobs, and no endpoints")
        self._check_region(environ)
        body = _body(environ)
        if operation == "CreateTrainingJob":
            return _answer(start_response, "200 OK", self._create(environ, body))
        if operation == "StopTrainingJob":
            self._jobs.stop(str(body.get("TrainingJobName")))
            return _answer(start_response, "200 OK", {})
        if operation not in _MOTO:
            raise Refused(f"{operation} is not offered by the local executor: it runs training jobs only")
        with self._lock:
            return list(self._moto(environ, start_response))

    def _create(self, environ: Environ, request: Mapping[str, Any]) -> Mapping[str, Any]:
        check(request)
        name = request["TrainingJobName"]
        with self._lock:
            records = get_backend("sagemaker")[ACCOUNT][self._region].training_jobs
            if name in records:
                raise NameTaken(f"Training job names must be unique within an AWS account and Region; {name} exists")
            answer = _call(self._moto, environ)
            record = JobRecord(records[name], request, self._lock, datetime.now(UTC))
        self._jobs.submit(record)
        return answer

    def _check_region(self, environ: Environ) -> None:
        match = _REGION.search(environ.get("HTTP_AUTHORIZATION", ""))
        if match is None or match[1] != self._region:
            asked = match[1] if match else "no region (an unsigned request)"
            raise Refused(f"the local executor is in {self._region}, the request is for {asked}; see TWINLOOP_REGION")


def _body(environ: Environ) -> dict[str, Any]:
    """The request's JSON object; leaves the bytes to be read again."""
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if length > _LARGEST_REQUEST:
        raise Refused(f"a request of {length} bytes is larger than {_LARGEST_REQUEST}")
    raw = environ["wsgi.input"].read(length)
    environ["wsgi.input"] = io.BytesIO(raw)
    try:
        body = json.loads(raw or b"{}")
    except ValueError as error:
        raise Refused(f"the request is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise Refused("the request is not a JSON object")
    return body


def _call(application: Any, environ: Environ) -> dict[str, Any]:
    """Let moto answer; its refusals become ours."""
    statuses: list[str] = []
    body = b"".join(application(environ, lambda status, _headers, _error=None: statuses.append(status)))
    answer: dict[str, Any] = json.loads(body)
    if not statuses[0].startswith("200"):
        raise Refused(str(answer.get("message", answer)))
    return answer


def _answer(start_response: StartResponse, status: str, content: Mapping[str, Any]) -> Iterable[bytes]:
    raw = json.dumps(content).encode()
    start_response(status, [*_HEADERS, ("Content-Length", str(len(raw)))])
    return [raw]
