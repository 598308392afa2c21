"""What `meterstream serve` is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meterstream_aggregator.store.address import StoreAddress
from meterstream_schemas.events import EVENTS_TOPIC
from meterstream_services.accounts.opening import DirectoryAddress
from meterstream_services.http.front_limits import DEFAULTS, FrontLimits

PATIENCE_SECONDS: Final = 5.0
"""How long the log may take, unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """What the door needs: where the log is, and where the spool lies.

    ``patience_seconds`` is how long a client waits for the log before it hears that it is away.
    With the wait for the disk after that it is less than the ten seconds that clients without keys
    wait: one that gives up sends again, and counts twice.
    """

    bootstrap_servers: str
    spool: Path
    topic: str = EVENTS_TOPIC
    registry_url: str | None = None
    spool_bytes_max: int = 1 << 30
    patience_seconds: float = PATIENCE_SECONDS


@dataclass(frozen=True, slots=True)
class UnimeterPort:
    """One TCP port of Unimeter's protocol. ``tenant`` None: accounts are tenants by themselves.

    ``advertised`` is what clients are told to connect to, where that differs (``host:port``). Lists
    are laid out as the published Python client reads them, or ``counted``: as the vendor's server
    writes them. ``events_per_second`` None: as much as a key may send unless it says otherwise.
    """

    host: str
    port: int
    tenant: str | None = None
    advertised: str | None = None
    counted: bool = False
    events_per_second: int | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the services find their data, and where they answer.

    ``port`` 0 takes a free one. ``hosts`` are further names by which clients may call a service
    that listens on a loopback address; see `meterstream_services.http.limits`. Without ``gateway``
    nothing is taken, only answered. ``keys`` None: none are looked for, everybody may do everything
    (tests). ``book`` None: what clients define is forgotten at the end. ``definitions`` is a file
    that is written when Unimeter's metrics change, for the catalogue of the workers. With
    ``metrics_open`` metrics take no key where other machines reach them either.
    """

    store: StoreAddress
    accounts: DirectoryAddress
    host: str = "127.0.0.1"
    port: int = 8080
    hosts: tuple[str, ...] = ()
    metrics_open: bool = False
    log_json: bool = False
    gateway: Gateway | None = None
    keys: StoreAddress | None = None
    book: StoreAddress | None = None
    unimeter: tuple[UnimeterPort, ...] = ()
    definitions: Path | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    limits: FrontLimits = DEFAULTS
