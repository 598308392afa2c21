"""The read-only schema registry of the bundled schemas."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
