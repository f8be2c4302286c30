"""What can go wrong with the process executor itself, and not with a function."""


class ExecutorError(Exception):
    """A function cannot be run on this machine; the message says what to do."""


class Closed(ExecutorError):
    """The execution environment was stopped while it was working."""
