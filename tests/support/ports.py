"""Ports for what tests start."""

import random
import socket

HOST = "127.0.0.1"
# Below those that the system gives to outgoing connections: one of these could take a port before it is listened on.
_RANGE = range(20_000, 32_000)
# In an order of this process's own, so that processes side by side get others, and each once.
_UNUSED = iter(random.SystemRandom().sample(_RANGE, len(_RANGE)))


def free_port() -> int:
    """Return a port that nobody has, and that this process was not given before."""
    for port in _UNUSED:
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise OSError(f"no port of {_RANGE} is free")
