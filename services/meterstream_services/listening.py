"""Addresses to listen on: free, named as people write them, and answering."""

from __future__ import annotations

import errno
import http.client
import socket

from meterstream_services.directories import UpError


def check_port(host: str, port: int, *, option: str = "--http") -> None:
    """Refuse an address that cannot be listened on. Raises `UpError` that names the option."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as problem:
        if problem.errno == errno.EADDRINUSE:
            raise UpError(
                f"port {port} on {host} is in use; stop what listens there, or choose another "
                f"{option}"
            ) from problem
        raise UpError(
            f"cannot listen on {host}:{port}: {problem.strerror}; choose another {option}"
        ) from problem


def free_port(host: str) -> int:
    """A port that is free now. Raises `UpError` for a host that is not this machine's."""
    try:
        family = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((host, 0))
            return int(probe.getsockname()[1])
    except OSError as problem:
        raise UpError(
            f"cannot listen on {host}: {problem.strerror}; choose another --http"
        ) from problem


def is_ready(host: str, port: int) -> bool:
    """Whether the services say that they can answer."""
    connection = http.client.HTTPConnection(reachable(host), port, timeout=2)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def reachable(host: str) -> str:
    """Where to ask a service that listens on ``host``: this machine when it listens anywhere."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not bound


def in_url(host: str) -> str:
    """A host as it stands in a URL: an IPv6 address has brackets."""
    return f"[{host}]" if ":" in host else host
