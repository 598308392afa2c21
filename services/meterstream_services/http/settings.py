"""What `meterstream serve` is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from meterstream_aggregator.store.address import StoreAddress


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the services find their data, and where they answer.

    ``port`` 0 takes a free one. ``hosts`` are further names by which clients may call a service
    that listens on a loopback address; see `meterstream_services.http.limits`.
    """

    store: StoreAddress
    accounts: Path
    host: str = "127.0.0.1"
    port: int = 8080
    hosts: tuple[str, ...] = ()
    log_json: bool = False
