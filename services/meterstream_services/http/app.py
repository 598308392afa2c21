"""The application: its parts, wired."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import metadata
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from meterstream_aggregator.store.opening import Readers
from meterstream_aggregator.store.port import StoreReader
from meterstream_consumers.logs import configure
from meterstream_services.accounts.opening import open_directory
from meterstream_services.accounts.port import EditableDirectory
from meterstream_services.clients.agentmeter import routes as agentmeter
from meterstream_services.clients.book import Book, MemoryBook
from meterstream_services.clients.book_sql import open_book
from meterstream_services.clients.climeter import routes as climeter
from meterstream_services.clients.eventlog import EventLog
from meterstream_services.clients.meter_lib import routes as meter_lib
from meterstream_services.clients.stripemeter import routes as stripemeter
from meterstream_services.ends import MUST_BE_MENDED
from meterstream_services.gateway.opening import Opened, open_gateway
from meterstream_services.gateway.port import Door
from meterstream_services.http import (
    account_feed,
    account_ids,
    account_moves,
    accounts,
    adjustments,
    deadletters,
    docs,
    explain,
    health,
    ingest,
    lookup,
    meters,
    openmeter,
    periods,
    reconcile,
    records,
    registry,
    sessions,
    status,
    tenants,
    thresholds,
    usage,
)
from meterstream_services.http.auth import Admission, AuthMiddleware
from meterstream_services.http.front_lane import Guards, Lane, LanedApplication, LaneMiddleware
from meterstream_services.http.limits import Limits, LimitsMiddleware, is_loopback
from meterstream_services.http.metrics import HttpMetrics, MetricsMiddleware, RequestCounts
from meterstream_services.http.parts import Parts
from meterstream_services.http.problems import ProblemDocument, install_problems
from meterstream_services.http.server import serve
from meterstream_services.http.settings import Settings
from meterstream_services.keyless import why_not
from meterstream_services.keys.checking import Keys
from meterstream_services.keys.kept import open_keyring

_log: Final = logging.getLogger("meterstream.http")
_ROUTES: Final = (
    # In this order they are tried: the busiest first.
    ingest,
    records,
    usage,
    periods,
    adjustments,
    explain,
    sessions,
    meters,
    thresholds,
    account_feed,
    account_moves,
    account_ids,
    accounts,
    lookup,
    tenants,
    status,
    reconcile,
    deadletters,
    health,
    docs,
    openmeter,
    registry,
    climeter,
    stripemeter,
    meter_lib,
    agentmeter,
)
_DESCRIPTION = """\
Usage by tenant and account, sessions, and how far everything is counted.

Times are ISO 8601; spans are half-open, `from` included and `to` not. Decimals are strings, exact
to the last digit. Errors are RFC 9457 problem documents. A parameter that is not known is refused.
"""


def run(settings: Settings) -> int:
    """Answer until SIGTERM; the exit status. Blocks; see `meterstream_services.http.server`."""
    configure(settings.log_json, process="serve")
    refusal = why_not(settings.host, settings.keys)
    if refusal is not None:
        sys.stderr.write(f"meterstream serve: {refusal}\n")
        return MUST_BE_MENDED
    refusal = _taken_port(settings)
    if refusal is not None:
        sys.stderr.write(f"meterstream serve: {refusal}\n")
        return 1
    app = create_app(settings)
    certificate, key = settings.tls_certificate, settings.tls_key
    return serve(
        app,
        host=settings.host,
        port=settings.port,
        metrics=app.state.parts.metrics,
        limits=settings.limits,
        tls=None if certificate is None or key is None else (certificate, key),
    )


def _taken_port(settings: Settings) -> str | None:
    """Which of Unimeter's ports cannot be listened on, in a sentence; else None."""
    if not settings.unimeter:
        return None
    from meterstream_services.directories import UpError  # noqa: PLC0415 - as in `_unimeter`
    from meterstream_services.listening import check_port  # noqa: PLC0415 - likewise

    taken = {(settings.host, settings.port)}
    for each in settings.unimeter:
        host = each.host.strip("[]")
        if each.port and (host, each.port) in taken:
            return f"port {each.port} on {host} is named twice; choose another --unimeter"
        taken.add((host, each.port))
        try:
            check_port(host, each.port, option="--unimeter")
        except UpError as problem:
            return str(problem)
    return None


def create_app(
    settings: Settings,
    *,
    open_store: Callable[[], StoreReader] | None = None,
    directory: EditableDirectory | None = None,
    now: Callable[[], int] | None = None,
    door: Door | None = None,
    log: EventLog | None = None,
    book: Book | None = None,
    keys: Keys | None = None,
) -> FastAPI:
    """The application for these settings. It opens nothing before it is asked something.

    The keyword arguments replace what the settings name: the store, the accounts directory, the
    clock (microseconds UTC), the door, the log's events, the book, the keys. All are closed when
    the application shuts down.
    """
    readers = Readers(settings.store)
    metrics = HttpMetrics()
    opened = None
    if settings.gateway is not None and door is None:
        opened = open_gateway(settings.gateway, metrics.gateway)
    parts = Parts(
        open_store=open_store or readers.open,
        directory=directory or open_directory(settings.accounts),
        now=now or _wall_clock,
        metrics=metrics,
        door=opened.door if opened else door,
        passing=opened.passing if opened else None,
        judge=opened.judge if opened else None,
        log=log or _event_log(settings, open_store or readers.open),
        book=book or (open_book(settings.book) if settings.book else MemoryBook()),
        keys=keys or _keys(settings),
    )

    parts.metrics.accounts.watch(parts.directory)

    app = LanedApplication(
        title="meterstream",
        version=metadata.version("meterstream"),
        description=_DESCRIPTION,
        lifespan=_life(settings, parts, opened, readers),
        # The usual document is written anew for each request, and the usual pages load programs
        # from elsewhere; `docs` has both.
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.parts = parts
    for module in _ROUTES:
        app.include_router(module.router)
    install_problems(app)
    _stand_before(app, settings, parts)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # as FastAPI documents it
    return app


def _life(
    settings: Settings, parts: Parts, opened: Opened | None, readers: Readers
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """What happens before the first request and after the last."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        if parts.keys is not None:
            await parts.keys.ready()
        if opened is not None:
            opened.start()
        elif parts.door is None:
            _log.info("takes no events and answers questions only: no --bootstrap, or --read-only")
        async with _unimeter(settings, parts):
            yield
        if opened is not None:
            await opened.close()
        elif parts.door is not None:
            await parts.door.close()
        _close(parts)
        readers.close()

    return lifespan


def _close(parts: Parts) -> None:
    parts.directory.close()
    parts.book.close()
    if parts.keys is not None:
        parts.keys.close()


def _stand_before(app: LanedApplication, settings: Settings, parts: Parts) -> None:
    """What every request comes through, the last one here first; and the lane beside it."""
    open_here = settings.metrics_open or is_loopback(settings.host)
    guards = Guards(
        RequestCounts(parts.metrics),
        Limits(listens_on=settings.host, hosts=settings.hosts, metrics=parts.metrics),
        None if parts.keys is None else Admission(parts.keys, metrics_open=open_here),
    )
    app.add_middleware(LaneMiddleware, path=ingest.PATH, answer=ingest.record)
    if guards.admission is not None:
        app.add_middleware(AuthMiddleware, admission=guards.admission)
    app.add_middleware(LimitsMiddleware, limits=guards.limits)
    app.add_middleware(MetricsMiddleware, counts=guards.counts)
    app.lane = Lane(app, guards, path=ingest.PATH, answer=ingest.record)


@asynccontextmanager
async def _unimeter(settings: Settings, parts: Parts) -> AsyncGenerator[None]:
    """The ports of Unimeter's clients, while the application runs."""
    if not settings.unimeter:
        yield
        return
    # Most serve none; and who answers questions only needs nothing of it.
    from meterstream_services.clients.unimeter.server import serving  # noqa: PLC0415 - above

    async with serving(settings.unimeter, parts, definitions=settings.definitions):
        yield


def _keys(settings: Settings) -> Keys | None:
    if settings.keys is None:
        return None
    return Keys(open_keyring(settings.keys), anybody=is_loopback(settings.host))


def _event_log(settings: Settings, open_store: Callable[[], StoreReader]) -> EventLog | None:
    if settings.gateway is None:
        return None
    # Kafka's client and the decoder are not for those who only answer questions.
    from meterstream_services.clients.eventlog_store import open_event_log  # noqa: PLC0415 - above

    return open_event_log(settings.gateway, open_store)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The API's description, with the one shape of all errors in it; made once."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
        )
        schemas = schema.setdefault("components", {}).setdefault("schemas", {})
        error = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(error.pop("$defs"))
        schemas["ProblemDocument"] = error
        app.openapi_schema = schema
    return app.openapi_schema


def _wall_clock() -> int:
    return time.time_ns() // 1000
