"""Services answered by the moto that LocalStack carries with it, where its own provider is missing or cannot run."""

from __future__ import annotations

from localstack.aws.api import RequestContext, ServiceRequest, ServiceResponse
from localstack.aws.skeleton import Skeleton
from localstack.aws.spec import load_service
from localstack.services.moto import call_moto
from localstack.services.plugins import Service


def moto_service(api: str) -> Service:
    """A service every operation of which is moto's; what moto has not got is answered as not implemented."""
    model = load_service(api)
    return Service(api, skeleton=Skeleton(model, dict.fromkeys(model.operation_names, _answer)))


def _answer(context: RequestContext, _request: ServiceRequest) -> ServiceResponse:
    return call_moto(context)
