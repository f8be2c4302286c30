"""Gateway responses of a template on an emulator that leaves them out (moto does, too)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from moto.backends import get_backend
from moto.server import ThreadedMotoServer

from twinloop_local.clients import client
from twinloop_local.gateway import apply_gateway_responses, gateway_responses
from twinloop_local.settings import LocalSettings

REFUSED = {
    "statusCode": "403",
    "responseParameters": {"gatewayresponse.header.Content-Type": "'application/problem+json'"},
    "responseTemplates": {"application/json": '{"status": 403}'},
}


def template(responses: dict[str, Any] | None) -> dict[str, Any]:
    body: dict[str, Any] = {"openapi": "3.0.1", "info": {"title": "toy", "version": "1"}, "paths": {}}
    if responses is not None:
        body["x-amazon-apigateway-gateway-responses"] = responses
    api = {"Type": "AWS::ApiGateway::RestApi", "Properties": {"Name": "toy", "Body": body}}
    return {"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}, "Api": api}}


def deploy_by_hand(gateway: Any) -> str:
    """Do what moto leaves out of the body; returns the API's id."""
    [made] = gateway.get_rest_apis()["items"]
    api = str(made["id"])
    [root] = gateway.get_resources(restApiId=api)["items"]
    where = {"restApiId": api, "resourceId": root["id"], "httpMethod": "GET"}
    gateway.put_method(**where, authorizationType="NONE")
    gateway.put_integration(**where, type="MOCK")
    gateway.create_deployment(restApiId=api, stageName="live")
    return api


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[LocalSettings]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    for backend in ("cloudformation", "apigateway", "sns"):
        get_backend(backend).reset()  # they belong to the process, not to the server
    yield LocalSettings(root=tmp_path, stack="toy", port=server.get_host_and_port()[1])
    server.stop()


def test_they_are_read_from_the_openapi_body() -> None:
    responses = {"INVALID_API_KEY": REFUSED, "DEFAULT_5XX": {"statusCode": 500}}
    [(name, found)] = gateway_responses(template(responses))
    assert name == "Api"
    assert found["INVALID_API_KEY"] == REFUSED
    assert found["DEFAULT_5XX"] == {"statusCode": "500", "responseParameters": {}, "responseTemplates": {}}


@pytest.mark.parametrize("made", [{}, {"Resources": {}}, template(None), template({})])
def test_a_template_without_them_asks_for_nothing(made: dict[str, Any]) -> None:
    assert list(gateway_responses(made)) == []


def test_they_are_put_and_the_stage_is_deployed_anew(settings: LocalSettings) -> None:
    body = json.dumps(template({"INVALID_API_KEY": REFUSED}))
    client(settings, "cloudformation").create_stack(StackName="toy", TemplateBody=body)
    gateway = client(settings, "apigateway")
    api = deploy_by_hand(gateway)
    [before] = gateway.get_stages(restApiId=api)["item"]
    assert apply_gateway_responses(settings) == 1
    put = gateway.get_gateway_response(restApiId=api, responseType="INVALID_API_KEY")
    assert {name: put[name] for name in REFUSED} == REFUSED
    [after] = gateway.get_stages(restApiId=api)["item"]
    assert after["stageName"] == before["stageName"] == "live"
    assert after["deploymentId"] != before["deploymentId"]
    assert apply_gateway_responses(settings) == 1  # again is harmless


def test_a_stack_without_an_api_is_left_alone(settings: LocalSettings) -> None:
    body = json.dumps({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}})
    client(settings, "cloudformation").create_stack(StackName="toy", TemplateBody=body)
    assert apply_gateway_responses(settings) == 0
