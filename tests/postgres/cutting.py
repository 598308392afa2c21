"""A TCP proxy before PostgreSQL that cuts a connection at its COMMIT, once, when it is armed."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from meterstream_aggregator.store.address import PostgresAddress

if TYPE_CHECKING:
    from collections.abc import Generator

Cut = Literal["before", "after", "held"]
"""COMMIT never gets there; it gets there and its answer is lost; it gets there late."""
_COMMIT = b"COMMIT\x00"


class Cutter:
    """``arm`` it, and the next COMMIT that comes by is cut. ``cuts`` counts them.

    ``held``: the client is cut off at once, and the server gets the COMMIT when ``release`` is set.
    """

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.cuts = 0
        self.release = threading.Event()
        self._armed: Cut | None = None
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(self, cut: Cut) -> None:
        """Cut the next COMMIT."""
        self._armed = cut

    def close(self) -> None:
        """Let go of everything."""
        for each in (self._listener, *self._open):
            _end(each)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                self._open += [client, server]
                answers = threading.Thread(target=_pump, args=(server, client), daemon=True)
                answers.start()
                forth = (client, server, answers)
                threading.Thread(target=self._to_server, args=forth, daemon=True).start()

    def _to_server(
        self, client: socket.socket, server: socket.socket, answers: threading.Thread
    ) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if self._armed is not None and _COMMIT in data:
                    cut, self._armed = self._armed, None
                    # Before anybody can notice: who was cut off may look at once.
                    self.cuts += 1
                    self._cut(cut, client, server, data)
                    answers.join(30)
                    break
                server.sendall(data)
        _end(server)

    def _cut(self, cut: Cut, client: socket.socket, server: socket.socket, data: bytes) -> None:
        if cut == "before":
            _end(client)
            _end(server)
            return
        if cut == "after":
            # What the server answers finds nobody any more, and it has committed all the same.
            with suppress(OSError):
                client.shutdown(socket.SHUT_WR)
        else:
            _end(client)
            self.release.wait(30)
        server.sendall(data)


@contextmanager
def cutter(address: PostgresAddress) -> Generator[tuple[Cutter, PostgresAddress]]:
    """A cutter before a store, and the store's address through it."""
    parts = urlsplit(address.url)
    assert parts.hostname is not None
    between = Cutter(parts.hostname, parts.port or 5432)
    try:
        login = parts.netloc.rpartition("@")[0]
        netloc = f"{login}@127.0.0.1:{between.port}"
        url = parts._replace(netloc=netloc).geturl()
        # Encryption would hide the COMMIT from the cutter.
        yield between, address._replace(url=f"{url}?sslmode=disable&gssencmode=disable")
    finally:
        between.close()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    _end(target)


def _end(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()
