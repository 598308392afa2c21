"""The routes that the clients of AgentMeter call, versions 0.3.x and 0.2.0."""

from __future__ import annotations

from fastapi import APIRouter

from meterstream_services.clients.agentmeter import (
    billing_routes,
    health_routes,
    legacy_event_routes,
    meter_event_routes,
    meter_type_routes,
    project_routes,
    user_meter_routes,
)

router = APIRouter(include_in_schema=False)
for _module in (
    meter_event_routes,
    meter_type_routes,
    project_routes,
    user_meter_routes,
    legacy_event_routes,
    billing_routes,
    health_routes,
):
    router.include_router(_module.router)
