"""Two tenants in one store, each with an account, whose names and figures are easy to tell apart.

Everything of alphaco has ``alphaco`` or a figure of sevens in it, everything of betaco ``betaco``
or a figure of nines, so that an answer can be searched for what it must not tell.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC
from typing import TYPE_CHECKING, Any

import httpx

from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.changes import (
    CallerKey,
    DeadLetter,
    KeyState,
    Place,
    Presence,
    SeriesKey,
    Span,
    UsageKey,
)
from meterstream_aggregator.civil import parse_time
from meterstream_aggregator.refusals import Reason, Refusal
from meterstream_aggregator.sessions import Session, SessionKey, Start
from meterstream_aggregator.store.memory import MemoryStore
from meterstream_aggregator.store.port import TopicBinding
from meterstream_aggregator.thresholds import identity
from meterstream_schemas.quantity import Amount
from meterstream_services.accounts.memory import MemoryDirectory
from meterstream_services.accounts.model import Assign, SetAccount
from meterstream_services.clients.book import MemoryBook
from meterstream_services.clients.stripemeter.prices import set_price
from meterstream_services.gateway.memory import MemoryDoor
from meterstream_services.http.app import create_app
from meterstream_services.http.settings import Settings
from tests.unit.services.keys.making import SECOND, Keyed

if TYPE_CHECKING:
    from pathlib import Path

CATALOGUE = parse_catalogue("""
metering_since: 2026-01-01T00:00:00Z
meters:
  - {name: calls, aggregate: sum, unit: call, group_by: [who]}
  - {name: runs, aggregate: session, timeout: 2h}
thresholds:
  - {name: each, meter: calls, scope: tenant, every: 1mo, at: ["5"]}
  - {name: whole, meter: calls, scope: account, every: 1mo, at: ["5"]}
""")
ALPHA, BETA = "alphaco", "betaco"
FIGURES = {ALPHA: 777_177_771, BETA: 999_199_991}
BOTH = str(sum(FIGURES.values()))
NOW = parse_time("2026-03-10T12:00", UTC)


def traces(tenant: str) -> list[str]:
    """What an answer has in it that tells of a tenant: its name, its figure, also as seconds.

    Nothing shorter: a few digits are in one process's memory or time of day, now and then.
    """
    whole, micros = divmod(FIGURES[tenant], SECOND)
    return [tenant, str(FIGURES[tenant]), BOTH, f"{whole}.{micros:06}"]


def filled_store() -> MemoryStore:
    """Usage, an adjustment, sessions, dead letters, keys, producers and thresholds of both."""
    store = MemoryStore()
    store.bind(TopicBinding("events", "id-1", 1), CATALOGUE)
    store.claim(0, "worker-1")
    content = store.content
    calls = CATALOGUE.meter("calls")
    day = parse_time("2026-03-01", UTC)
    for number, tenant in enumerate((ALPHA, BETA)):
        figure = FIGURES[tenant]
        series = SeriesKey(0, tenant, "calls", (f"{tenant}-group",), calls.version)
        content.usage[UsageKey(series, day, 0, 0)] = (figure, figure)
        content.usage[UsageKey(series, day, day + 40 * SECOND * 86_400, 0)] = (figure, figure)
        start = Start(day, f"{tenant}-subject", (("who", tenant),))
        session = Session((start,), (day + figure,), day + figure, day + figure)
        content.sessions[SessionKey(0, tenant, "runs", f"{tenant}-session")] = (session, None)
        refusal = Refusal(Reason.UNKNOWN_TYPE, f"no meter reads {tenant}-type")
        content.dead_letters[0, figure] = DeadLetter(
            0, figure, day, refusal, tenant, f"{tenant}-type", f"{tenant}-producer", 1, 1
        )
        key = CallerKey(0, tenant, f"{tenant}-key", bytes(16), day, KeyState.COUNTED, day)
        content.keys[0, tenant, f"{tenant}-key"] = key
        content.presences[Presence(0, f"{tenant}-producer", 0)] = Span(0, figure, figure)
        for threshold in CATALOGUE.thresholds:
            who = tenant if threshold.scope == "tenant" else f"{tenant}-account"
            content.ledger.keep_total(identity(threshold), who, day, Amount(figure, 0))
        content.dead_letters[0, number] = DeadLetter(
            0, number, day, Refusal(Reason.UNDECODABLE, f"{ALPHA} {BETA}"), None, None, "", 0, 0
        )
    content.places[Place(0, day // 3_600_000_000, 0)] = Span(0, 10, sum(FIGURES.values()))
    shared = identity(CATALOGUE.thresholds[1])
    content.ledger.keep_total(shared, "shared-account", day, Amount(sum(FIGURES.values()), 0))
    return store


def filled_directory() -> MemoryDirectory:
    """An account for each, and one that both belonged to."""
    directory = MemoryDirectory()
    directory.apply([SetAccount("shared-account", name="Shared", zone="UTC")])
    for tenant in (ALPHA, BETA):
        name = f"{tenant}-account"
        directory.apply([SetAccount(name, name=f"{tenant} Ltd", zone="UTC")])
        directory.apply([Assign(tenant, "shared-account", None)])
        directory.apply([Assign(tenant, name, parse_time("2026-02-01", UTC))])
    return directory


def filled_book() -> MemoryBook:
    """Of each a StripeMeter account with a price and a limit, under the tenant's name and another.

    The account is whoever sells, so its name is no customer's but by chance.
    """
    book = MemoryBook()
    for tenant in (ALPHA, BETA):
        figure = str(FIGURES[tenant])
        mapping = {"metric": f"{tenant}-metric", "unitPrice": figure, "limit": figure}
        for account in (tenant, f"{tenant}-vendor"):
            set_price(book, account, mapping)
    return book


@dataclass
class Service:
    """The whole application over both tenants, with keys of every kind."""

    place: Path
    keyed: Keyed = field(default_factory=Keyed)
    door: MemoryDoor = field(default_factory=MemoryDoor)
    texts: dict[str, str | None] = field(default_factory=dict[str, str | None])
    asked: int = 0

    def __post_init__(self) -> None:
        self.keyed.clock.seconds = NOW / SECOND
        self.texts = {
            "none": None,
            "wrong": "mk_live_wrongkey_" + "x" * 43,
            "revoked": self.keyed.make("admin"),
            "expired": self.keyed.make("admin", expires=NOW + SECOND),
            "ingest of alphaco": self.keyed.make("ingest", tenants=[ALPHA]),
            "read of alphaco": self.keyed.make("read", tenants=[ALPHA]),
            "both of alphaco": self.keyed.make("ingest", "read", tenants=[ALPHA]),
            "read of betaco": self.keyed.make("read", tenants=[BETA]),
            "read of both": self.keyed.make("read", tenants=[ALPHA, BETA]),
            "read of all": self.keyed.make("read"),
            "ingest of all": self.keyed.make("ingest"),
            "admin": self.keyed.make("admin"),
        }
        revoked = (self.texts["revoked"] or "")[8:16]
        self.keyed.ring.revoke(revoked, NOW)
        self.keyed.clock.seconds += 2
        self.app = create_app(
            Settings(self.place / "s", self.place / "a"),
            open_store=filled_store,
            directory=filled_directory(),
            now=lambda: NOW,
            door=self.door,
            book=filled_book(),
            keys=self.keyed.keys,
        )

    def send(self, key: str, method: str, url: str, **options: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
        """One request with one of the keys."""
        return self.send_all(key, [(method, url, options)])[0]

    def send_all(
        self, key: str, requests: list[tuple[str, str, dict[str, Any]]]
    ) -> list[httpx.Response]:
        """Several requests with one of the keys, one after the other, each from another address.

        So nobody is refused for having guessed too often.
        """
        text = self.texts[key]
        headers = {} if text is None else {"Authorization": f"Bearer {text}"}

        async def ask() -> list[httpx.Response]:
            answers: list[httpx.Response] = []
            for method, url, options in requests:
                self.asked += 1
                transport = httpx.ASGITransport(
                    app=self.app,
                    raise_app_exceptions=False,
                    client=(f"10.{self.asked // 250}.0.{self.asked % 250}", 9),
                )
                async with httpx.AsyncClient(
                    transport=transport, base_url="http://localhost", headers=headers
                ) as client:
                    answers.append(await client.request(method, url, **options))
            return answers

        return asyncio.run(ask())
