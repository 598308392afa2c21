"""The protocol of uvicorn on httptools, without what is not wanted here: less work a request.

No websockets, no other protocol after HTTP/1.1, no root path, no log line for each request, no
bound on what runs at once beside those of the front.
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from meterstream_services.http.front_cycle import FrontCycle


class FrontProtocol(HttpToolsProtocol):
    """Reads requests, and begins a task for each, one after the other."""

    def on_headers_complete(self) -> None:
        """A whole head came: its request begins, or waits for the one before."""
        parser, scope = self.parser, self.scope
        assert parser is not None, "it is what calls this"
        version = parser.get_http_version()
        before: FrontCycle | None = getattr(self, "cycle", None)
        app: Any = self.app
        scope["method"] = parser.get_method().decode("ascii")
        scope["http_version"] = version
        url = httptools.parse_url(self.url)
        raw_path: bytes = url.path
        path = raw_path.decode("ascii")
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = raw_path
        scope["query_string"] = url.query or b""
        self.cycle = FrontCycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        if before is not None and not before.response_complete:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, app))
        else:
            self._start_asgi_task(self.cycle, app)

    def on_body(self, body: bytes) -> None:
        """A piece of the body; this side reads no more while much of it waits."""
        cycle = self.cycle
        if cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        """The client has sent its request."""
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.more_body = False
            cycle.message_event.set()
