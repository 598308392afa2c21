"""Liveness, readiness and metrics: what orchestrators and Prometheus ask."""

from __future__ import annotations

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from meterstream_aggregator.errors import StoreError
from meterstream_services.accounts.errors import AccountsUnavailable
from meterstream_services.http.asking import json_response
from meterstream_services.http.parts import Parts, PartsOf
from meterstream_services.http.problems import Problem, documented
from meterstream_services.http.threads import Work, in_thread

router = APIRouter(tags=["operation"])


@router.get("/health/live", summary="Does the process answer?")
async def live() -> dict[str, str]:
    """Answers as long as the process does."""
    return {"status": "live"}


@router.get("/health/ready", summary="Can usage be answered?", responses=documented(503))
async def ready(parts: PartsOf) -> Response:
    """503 with the reason until the store can be read, and while no event can be taken.

    A log that is away is no reason as long as the spool has room. Accounts that cannot be read are
    told, and keep nothing from being answered.
    """
    return await in_thread(Work.HEALTH, _ready, parts)


def _ready(parts: Parts) -> Response:
    try:
        parts.directory.accounts(limit=1)
        accounts = "ready"
    except AccountsUnavailable as problem:
        accounts = f"unavailable: {problem}"
    troubles = dict[str, str | None]()
    if parts.door is not None:
        troubles["door"] = parts.door.trouble()
    try:
        with parts.store() as store:
            store.catalogue()
        troubles["store"] = None
    except StoreError as problem:
        troubles["store"] = str(problem)
    checks = {what: f"unavailable: {why}" if why else "ready" for what, why in troubles.items()}
    checks["accounts"] = accounts
    why = next(filter(None, troubles.values()), None)
    if why is not None:
        raise Problem(503, "not-ready", why, checks=checks)
    return json_response({"status": "ready", "checks": checks})


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
def metrics(parts: PartsOf) -> Response:
    """The service's own metrics, in Prometheus' text format."""
    parts.metrics.accounts.refresh()
    parts.metrics.missing.refresh(parts.store)
    content = generate_latest(parts.metrics.registry)
    return Response(content, headers={"content-type": CONTENT_TYPE_LATEST})
