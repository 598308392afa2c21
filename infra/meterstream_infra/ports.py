"""TCP ports on the loopback interface: which are free, and which is the broker's own."""

from __future__ import annotations

import random
import socket
from typing import Final

from meterstream_infra.broker_settings import HOST

# Below the ports that systems draw for outgoing connections: one of those could sit on the
# broker's port for a moment just when it starts again.
_DRAWN_FROM: Final = range(20_000, 30_000)
# Two brokers started by tests with one seed must not draw the same.
_random: Final = random.SystemRandom()


def is_free(port: int) -> bool:
    """Whether the broker could listen on the port now. Nothing keeps it free afterwards."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the broker does: connections that still wait to close do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def draw_free_port(*, besides: int = 0) -> int:
    """A port that is free now and is not ``besides``."""
    for port in _random.sample(_DRAWN_FROM, len(_DRAWN_FROM)):
        if port != besides and is_free(port):
            return port
    raise OSError(f"no port of {_DRAWN_FROM.start}-{_DRAWN_FROM.stop - 1} on {HOST} is free")


def answers(port: int) -> bool:
    """Whether something accepts connections on the port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0
