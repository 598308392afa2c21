"""The routes that StripeMeter's clients call."""

from __future__ import annotations

from fastapi import APIRouter

from meterstream_services.clients.stripemeter import ingest, listing, questions

router = APIRouter(include_in_schema=False)
for _part in (ingest, questions, listing):
    router.include_router(_part.router)
