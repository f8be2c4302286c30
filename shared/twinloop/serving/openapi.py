"""The OpenAPI document, generated from the contracts. Imported only by a request for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic.json_schema import models_json_schema

import twinloop
from twinloop.contracts.api import EventsAnswer, EventsRequest, Problem
from twinloop.contracts.model import Contract
from twinloop.contracts.system import System
from twinloop.serving.http import JSON_TYPE
from twinloop.serving.problems import PROBLEM_TYPE

_REF = "#/components/schemas/{model}"
_REFUSALS = {
    "400": "The request is wrong; `errors` names each field and the reason.",
    "403": "No API key, or one that is not known.",
    "404": "There is no such path or system.",
    "413": "The body is over 256 KB.",
    "415": "The body is not JSON.",
    "429": "More requests than the key's usage plan allows.",
    "503": "Nothing can answer now; try again.",
}


def document(system: System) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of one system's API."""
    event: type[Contract] = system.tables["events"]
    endpoint = system.endpoint
    requests = [(model, "validation") for model in (endpoint.request, EventsRequest, event)]
    answers = [(model, "serialization") for model in (endpoint.answer, EventsAnswer, Problem)]
    _, definitions = models_json_schema([*requests, *answers], ref_template=_REF)  # type: ignore[list-item]
    schemas = definitions["$defs"]
    # Each event is checked by itself and may have fields of its own, which its row keeps in `extra`.
    schemas[event.__name__]["additionalProperties"] = True
    schemas[EventsRequest.__name__]["properties"]["events"]["items"] = _ref(event)
    preset = schemas[endpoint.request.__name__]["properties"]["preset"]
    preset["enum"] = [*system.presets, None]
    preset["description"] = " ".join([preset["description"], *(f"`{n}`: {why}" for n, why in system.presets.items())])
    name = system.spec.name
    return {
        "openapi": "3.1.0",
        "info": {"title": f"twinloop {name}", "version": twinloop.__version__, "description": system.spec.requirements},
        "paths": {
            f"/v1/{name}/{system.spec.verb}": {
                "post": _operation(
                    f"{name}_{system.spec.verb}",
                    endpoint.summary,
                    endpoint.request,
                    ("200", endpoint.answer),
                )
            },
            f"/v1/{name}/events": {
                "post": _operation(
                    f"{name}_events",
                    "What users did, up to 500 events; each event id is taken once, however often it is sent.",
                    EventsRequest,
                    ("202", EventsAnswer),
                )
            },
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {"api_key": {"type": "apiKey", "in": "header", "name": "x-api-key"}},
        },
        "security": [{"api_key": []}],
    }


def _operation(name: str, summary: str, request: type[Contract], answer: tuple[str, type[Contract]]) -> dict[str, Any]:
    status, model = answer
    refusals = {
        code: {"description": text, "content": _content(_ref(Problem), PROBLEM_TYPE)}
        for code, text in _REFUSALS.items()
    }
    return {
        "operationId": name,
        "summary": summary,
        "requestBody": {"required": True, "content": _content(_ref(request))},
        "responses": {status: {"description": "The answer.", "content": _content(_ref(model))}, **refusals},
    }


def _ref(model: type[Contract]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}


def _content(schema: Mapping[str, Any], kind: str = JSON_TYPE) -> dict[str, Any]:
    return {kind: {"schema": dict(schema)}}
