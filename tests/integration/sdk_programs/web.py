"""A WSGI application that records one event a request, for gunicorn."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from tests.integration.sdk_programs.host import make_meter, record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

METER = make_meter(on_outcome=None)
if os.environ.get("HOST_RECORDS_AT_IMPORT"):
    record(METER, [0])


def app(environment: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Record the quantity that the query names; answer with the worker's and the producer's id."""
    quantity = int(parse_qs(environment["QUERY_STRING"])["quantity"][0])
    record(METER, [quantity])
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps([os.getpid(), METER.producer]).encode()]
