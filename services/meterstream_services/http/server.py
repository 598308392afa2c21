"""An application on a socket, until SIGTERM."""

from __future__ import annotations

import errno
import logging
import signal
import socket
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from meterstream_services.http.limits import is_loopback

DRAIN_SECONDS: Final = 20
"""How long requests that run may go on after SIGTERM."""
CONNECTIONS_MAX: Final = 1000
"""Connections beyond this many are answered 503 at once."""

_log: Final = logging.getLogger("meterstream.http")


def serve(app: ASGIApp, *, host: str, port: int) -> int:
    """Answer until SIGTERM or SIGINT; the exit status: 0 after a clean stop, 1 with a sentence.

    Blocks. To be called in the main thread, which gets the signals. ``port`` 0 takes a free one.
    """
    try:
        listener = _listen(host, port)
    except OSError as problem:
        sys.stderr.write(f"meterstream serve: {_sentence(problem, host, port)}\n")
        return 1
    with listener:
        return _serve(app, listener)


def _serve(app: ASGIApp, listener: socket.socket) -> int:
    host, port = listener.getsockname()[:2]
    if not is_loopback(host):
        _log.warning("answers to anybody who reaches %s: there are no keys yet", host)
    _log.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)
    server = _Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="on",
            ws="none",
            limit_concurrency=CONNECTIONS_MAX,
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )
    )
    server.run(sockets=[listener])
    if not server.started:
        sys.stderr.write("meterstream serve: could not start; the lines above say why\n")
        return 1
    _log.info("stopped")
    return 0


class _Server(uvicorn.Server):
    """Ends by itself after a signal. The original raises it again, and the status would be -15."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, self.handle_exit)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `OSError` where the address cannot be had."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host.strip("[]") or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        # A server that restarts must not wait for its predecessor's connections to time out.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except BaseException:
        listener.close()
        raise
    return listener


def _sentence(problem: OSError, host: str, port: int) -> str:
    place = f"{host}:{port}"
    match problem.errno:
        case errno.EADDRINUSE:
            return f"the port of {place} is in use; stop what listens there, or choose another port"
        case errno.EACCES:
            return f"{place} may not be used by this user; choose a port above 1023"
        case errno.EADDRNOTAVAIL:
            return f"{host} is no address of this machine; choose one that is"
        case _:
            return f"cannot listen on {place}: {problem.strerror or problem}"
