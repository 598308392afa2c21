"""/v1/records: Avro records of the SDK, passed on as they are (decision 22)."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
