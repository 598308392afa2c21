"""POST /v1/events: native JSON and CloudEvents."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
