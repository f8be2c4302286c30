"""The local cloud: starts the emulator and the SageMaker executor, deploys the template, stops it all again."""

from twinloop_local.cloud import Component, Status, down, status, up
from twinloop_local.deploy import deploy, outputs
from twinloop_local.errors import DeployError, LocalCloudError, PortInUseError, StartError
from twinloop_local.settings import LocalSettings

__all__ = [
    "Component",
    "DeployError",
    "LocalCloudError",
    "LocalSettings",
    "PortInUseError",
    "StartError",
    "Status",
    "deploy",
    "down",
    "outputs",
    "status",
    "up",
]
