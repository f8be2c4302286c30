"""Gives a deployed REST API the gateway responses of its template, which the emulators leave out.

CloudFormation on AWS reads them from the API's OpenAPI body; MiniStack and LocalStack read everything else there. Both
have the API call for them, so that they are put one by one here, and take effect with a new deployment of the stages,
as on AWS.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from twinloop_local.clients import client
from twinloop_local.settings import LocalSettings

_EXTENSION = "x-amazon-apigateway-gateway-responses"


def apply_gateway_responses(settings: LocalSettings) -> int:
    """Put the gateway responses of every REST API in the stack; returns how many there are."""
    cloudformation = client(settings, "cloudformation")
    # The template after SAM's transformation: what AWS would be given.
    template = cloudformation.get_template(StackName=settings.stack, TemplateStage="Processed")["TemplateBody"]
    gateway, count = client(settings, "apigateway"), 0
    for name, responses in gateway_responses(json.loads(template) if isinstance(template, str) else template):
        found = cloudformation.describe_stack_resource(StackName=settings.stack, LogicalResourceId=name)
        api = found["StackResourceDetail"]["PhysicalResourceId"]
        for kind, response in responses.items():
            gateway.put_gateway_response(restApiId=api, responseType=kind, **response)
        # A deployment to a stage that exists leaves its settings as they are.
        for stage in gateway.get_stages(restApiId=api)["item"]:
            gateway.create_deployment(restApiId=api, stageName=stage["stageName"])
        count += len(responses)
    return count


def gateway_responses(template: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    """Yield each REST API's logical name and its gateway responses, as arguments of PutGatewayResponse."""
    for name, resource in template.get("Resources", {}).items():
        if resource["Type"] != "AWS::ApiGateway::RestApi":
            continue
        body = resource.get("Properties", {}).get("Body", {})
        responses = {kind: _arguments(response) for kind, response in body.get(_EXTENSION, {}).items()}
        if responses:
            yield name, responses


def _arguments(response: Mapping[str, Any]) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "responseParameters": dict(response.get("responseParameters", {})),
        "responseTemplates": dict(response.get("responseTemplates", {})),
    }
    if "statusCode" in response:
        arguments["statusCode"] = str(response["statusCode"])
    return arguments
