"""The ends that OpenMeter's clients call."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
