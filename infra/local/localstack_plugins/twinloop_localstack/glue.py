"""The Glue catalog from moto, and its database as a CloudFormation resource: this edition of LocalStack has neither."""

from __future__ import annotations

from typing import Any, ClassVar

from localstack.services.cloudformation.resource_provider import (
    CloudFormationResourceProviderPlugin,
    OperationStatus,
    ProgressEvent,
    ResourceProvider,
    ResourceRequest,
)
from localstack.services.plugins import Service, aws_provider

from twinloop_localstack.moto import moto_service

Model = dict[str, Any]


@aws_provider(api="glue", name="moto")  # type: ignore[untyped-decorator] # LocalStack has no types
def provider() -> Service:
    """The provider that `PROVIDER_OVERRIDE_GLUE=moto` chooses."""
    return moto_service("glue")


class DatabaseProvider(ResourceProvider[Model]):  # type: ignore[misc] # LocalStack has no types
    """Creates, changes and deletes a database as the template says; `Ref` is its name."""

    TYPE = "AWS::Glue::Database"
    SCHEMA: ClassVar[Model] = {
        "typeName": TYPE,
        "properties": {
            "CatalogId": {"type": "string"},
            "DatabaseInput": {"type": "object"},
            "DatabaseName": {"type": "string"},
        },
        "required": ["CatalogId", "DatabaseInput"],
        "createOnlyProperties": ["/properties/DatabaseName"],
        "primaryIdentifier": ["/properties/DatabaseName"],
    }

    def create(self, request: ResourceRequest[Model]) -> ProgressEvent[Model]:
        model = request.desired_state
        # As on AWS, a name of its own comes before the one inside the input.
        name = model.get("DatabaseName") or model["DatabaseInput"]["Name"]
        request.aws_client_factory.glue.create_database(DatabaseInput={**model["DatabaseInput"], "Name": name})
        return _done({**model, "DatabaseName": name})

    def update(self, request: ResourceRequest[Model]) -> ProgressEvent[Model]:
        name = request.previous_state["DatabaseName"]
        given = request.desired_state["DatabaseInput"]
        request.aws_client_factory.glue.update_database(Name=name, DatabaseInput={**given, "Name": name})
        return _done({**request.desired_state, "DatabaseName": name})

    def delete(self, request: ResourceRequest[Model]) -> ProgressEvent[Model]:
        request.aws_client_factory.glue.delete_database(Name=request.desired_state["DatabaseName"])
        return _done({})


class DatabasePlugin(CloudFormationResourceProviderPlugin):  # type: ignore[misc] # LocalStack has no types
    """What LocalStack's CloudFormation finds under the type's name."""

    name = DatabaseProvider.TYPE

    def __init__(self) -> None:
        self.factory: type[ResourceProvider[Model]] | None = None

    def load(self) -> None:
        self.factory = DatabaseProvider


def _done(model: Model) -> ProgressEvent[Model]:
    return ProgressEvent(status=OperationStatus.SUCCESS, resource_model=model, custom_context={})
