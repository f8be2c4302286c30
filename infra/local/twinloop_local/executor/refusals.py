"""Errors as the SageMaker API words them."""

from __future__ import annotations

from twinloop_local.errors import LocalCloudError


class ApiError(LocalCloudError):
    """Becomes an HTTP 400 with this code, as botocore expects it."""

    code = "ValidationException"


class Refused(ApiError):
    """The request is wrong, or asks for what only AWS can do."""


class NameTaken(ApiError):
    """A job of that name exists."""

    code = "ResourceInUse"
