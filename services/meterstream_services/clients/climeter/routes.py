"""The routes that CLIMeter's client calls, and those that set what it is charged."""

from __future__ import annotations

from fastapi import APIRouter

from meterstream_services.clients.climeter import consumer, ingest, operating
from meterstream_services.clients.climeter.sweeping import sweeping

router = APIRouter(include_in_schema=False, lifespan=sweeping)
for _part in (ingest, consumer, operating):
    router.include_router(_part.router)
