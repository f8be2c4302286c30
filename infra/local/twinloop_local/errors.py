"""What can go wrong with the local cloud itself."""

from twinloop.errors import TwinloopError


class LocalCloudError(TwinloopError):
    """The local cloud cannot do what was asked."""


class PortInUseError(LocalCloudError):
    """Somebody else listens on a port the stack needs."""


class StartError(LocalCloudError):
    """A part of the local cloud did not come up; the message ends with the tail of its log."""


class DeployError(LocalCloudError):
    """`sam build` or `sam deploy` failed; the message ends with what it said."""
