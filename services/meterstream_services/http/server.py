"""An application on a socket, until SIGTERM."""

from __future__ import annotations

import asyncio
import errno
import functools
import gc
import logging
import resource
import signal
import socket
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from meterstream_services.http.front import Front
from meterstream_services.http.front_connection import FrontConnection
from meterstream_services.http.front_limits import DEFAULTS, FrontLimits
from meterstream_services.http.front_tls import Certificate, CertificateUnfit
from meterstream_services.http.metrics import HttpMetrics

DRAIN_SECONDS: Final = 20
"""How long requests that run may go on after SIGTERM."""
_OTHER_FILES: Final = 500
"""Open files beside connections: stores, the log, the spool."""
_COLLECT_OBJECTS: Final = 50_000
"""Objects more than at the last search for cycles, before the next."""

_log: Final = logging.getLogger("meterstream.http")


def serve(
    app: ASGIApp,
    *,
    host: str,
    port: int,
    metrics: HttpMetrics | None = None,
    limits: FrontLimits = DEFAULTS,
    tls: tuple[Path, Path] | None = None,
) -> int:
    """Answer until SIGTERM or SIGINT; the exit status: 0 after a clean stop, 1 with a sentence.

    Blocks. To be called in the main thread, which gets the signals. ``port`` 0 takes a free one.
    ``tls``: a certificate with its chain, and its key; SIGHUP reads them again.
    """
    try:
        certificate = Certificate(*tls) if tls is not None else None
        listener = _listen(host, port)
    except CertificateUnfit as problem:
        sys.stderr.write(f"meterstream serve: {problem}\n")
        return 1
    except OSError as problem:
        sys.stderr.write(f"meterstream serve: {_sentence(problem, host, port)}\n")
        return 1
    with listener:
        return _serve(app, listener, Front(limits, metrics or HttpMetrics()), certificate)


def _serve(
    app: ASGIApp, listener: socket.socket, front: Front, certificate: Certificate | None
) -> int:
    _allow_files(front.limits.connections_max + _OTHER_FILES)
    server = FrontServer(app, front, certificate)
    host, port = listener.getsockname()[:2]
    scheme = "http" if certificate is None else "https"
    _log.info("listening on %s://%s:%d", scheme, f"[{host}]" if ":" in host else host, port)
    with _rarely_collecting():
        server.run(sockets=[listener])
    if not server.started:
        sys.stderr.write("meterstream serve: could not start; the lines above say why\n")
        return 1
    _log.info("stopped")
    return 0


@contextmanager
def _rarely_collecting() -> Generator[None]:
    """Search seldom for cycles of garbage: events under way are many objects, and none of them.

    By Python's measure each is looked at several times while it waits, a fifth of all it costs.
    What was made to start with stays, and is not looked at again.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


class FrontServer(uvicorn.Server):
    """An application behind the front. After a signal it ends by itself.

    The original raises the signal again, and the exit status would be -15.
    """

    def __init__(self, app: ASGIApp, front: Front, certificate: Certificate | None = None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=functools.partial(FrontConnection, front=front),  # type: ignore[arg-type]  # makes one, as a class does
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                lifespan="on",
                ws="none",
                timeout_graceful_shutdown=DRAIN_SECONDS,
            )
        )
        self._front = front
        self._certificate = certificate

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, then listen: with TLS, and with time limits from the start."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            self.should_exit = True
            return
        loop = asyncio.get_running_loop()
        tls = self._certificate
        self.servers = [
            await loop.create_server(
                self._connection,
                sock=listener,
                backlog=self.config.backlog,
                ssl=None if tls is None else tls.context,
                ssl_handshake_timeout=None if tls is None else self._front.limits.handshake_seconds,
            )
            for listener in sockets or []
        ]
        self._front.start()
        if tls is not None and threading.current_thread() is threading.main_thread():
            loop.add_signal_handler(signal.SIGHUP, self._reload)
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, answer what is under way, then end the application."""
        try:
            await super().shutdown(sockets)
        finally:
            self._front.stop()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """SIGTERM and SIGINT ask for the end."""
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

    def _connection(self) -> FrontConnection:
        return FrontConnection(
            self.config, self.server_state, self.lifespan.state, front=self._front
        )

    def _reload(self) -> None:
        assert self._certificate is not None
        try:
            self._certificate.reload()
        except CertificateUnfit as problem:
            _log.error("the certificate stays as it was: %s", problem)
        else:
            _log.info("the certificate was read again")


def _allow_files(wanted: int) -> None:
    """Let this process have as many open files as its connections may need, where it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    more = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
    if more < wanted:
        _log.warning(
            "%d open files are allowed, %d may be needed: raise `ulimit -n`, or lower the limit "
            "connections_max",
            more,
            wanted,
        )


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
