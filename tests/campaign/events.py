"""The events of a campaign: a mix of everything, drawn from a seed and a clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import random

_SECOND: Final = 1_000_000
_TENANTS: Final = [f"tenant-{number:02d}" for number in range(40)]
_ROUTES: Final = ("/pay", "/search", "/", "/export")
_MODELS: Final = ("small", "large")
_REGIONS: Final = ("eu", "us", "ap")
_SHARED_KEYS: Final = 5_000


class Drawn(NamedTuple):
    """An event to be recorded. ``block`` marks a session that the SDK keeps alive by itself."""

    id: str
    kind: str
    tenant: str
    type: str
    time: int
    quantity: int = 0
    scale: int = 0
    session: str | None = None
    subject: str | None = None
    attributes: dict[str, str] = {}  # noqa: RUF012 - never changed: `Events` makes each anew
    key: str | None = None
    block: bool = False


class Events:
    """Draws events; ``tag`` begins every id, so that no two producers share one."""

    def __init__(self, tag: str, chance: random.Random) -> None:
        self._tag: Final = tag
        self._chance: Final = chance
        self._number = 0
        self._usage: Final[list[Drawn]] = []
        self._open: Final[list[Drawn]] = []

    def draw(self, now: int) -> Drawn:
        """The next event; ``now`` in microseconds UTC."""
        dice = self._chance.random()
        if dice < 0.05 and self._usage:
            return self._again()
        if dice < 0.20:
            return self._boundary(now)
        if dice < 0.21:
            return self._conflict(now)
        return self._recorded(now)

    def _recorded(self, now: int) -> Drawn:
        chance, tenant = self._chance, self._chance.choice(_TENANTS)
        id_, time = self._id(), self._time(now)
        key = id_ if chance.random() < 0.3 else None
        match chance.randrange(12):
            case 0 | 1 | 2 | 3:
                said = {"route": chance.choice(_ROUTES)}
                drawn = Drawn(
                    id_, "USAGE", tenant, "api.request", time, 1, attributes=said, key=key
                )
            case 4 | 5 | 6 | 7:
                said = {
                    "model": chance.choice(_MODELS),
                    "region": chance.choice(_REGIONS),
                    "env": chance.choice(("prod", "prod", "test")),
                    "tokens": str(chance.randrange(1, 9_000)),
                }
                quantity, scale = chance.randrange(10**6), chance.randrange(7)
                drawn = Drawn(
                    id_, "USAGE", tenant, "llm.completion", time, quantity, scale,
                    attributes=said, key=key,
                )  # fmt: skip
            case 8:
                said = {"queue": chance.choice("abc")}
                quantity = chance.randrange(-(10**9), 10**9)
                return self._with_id(
                    Drawn(id_, "USAGE", tenant, "job.run", time, quantity, 3, attributes=said)
                )
            case 9:
                said = {"route": chance.choice(_ROUTES)}
                who = f"user-{chance.randrange(50)}"
                return self._with_id(
                    Drawn(id_, "USAGE", tenant, "page.view", time, 1, subject=who, attributes=said)
                )
            case 10:
                quantity = chance.randrange(500)
                return self._with_id(Drawn(id_, "USAGE", tenant, "seats.set", time, quantity))
            case _:
                if chance.random() < 0.9:
                    return self._recorded(now)
                return self._with_id(Drawn(id_, "USAGE", tenant, "nobody.reads", time, 1))
        drawn = self._with_id(drawn)
        if key is not None:
            self._usage.append(drawn)
            del self._usage[:-200]
        return drawn

    def _again(self) -> Drawn:
        """An event of a caller that repeats itself, or takes back what it told."""
        drawn = self._chance.choice(self._usage)
        return drawn._replace(kind="VOID") if self._chance.random() < 0.5 else drawn

    def _conflict(self, now: int) -> Drawn:
        """Another content under a key that many share: the first in the log wins."""
        key = f"shared-{self._chance.randrange(_SHARED_KEYS)}"
        said = {"route": "/"}
        return self._with_id(
            Drawn(self._id(), "USAGE", _TENANTS[0], "api.request", now, 1, attributes=said, key=key)
        )

    def _boundary(self, now: int) -> Drawn:
        chance = self._chance
        if self._open and chance.random() < 0.6:
            place = chance.randrange(len(self._open))
            start = self._open[place]
            kind = "SESSION_HEARTBEAT" if chance.random() < 0.4 else "SESSION_END"
            if kind == "SESSION_END":
                del self._open[place]
            if chance.random() < 0.1 and not start.block:
                return self._boundary(now)  # Forgotten: it will time out.
            return self._with_id(start._replace(id=self._id(), kind=kind, time=now))
        id_, tenant = self._id(), chance.choice(_TENANTS)
        said = {"plan": chance.choice(("free", "paid"))}
        if chance.random() < 0.3:
            who = f"{self._tag}-{chance.randrange(5)}"
            begun = Drawn(id_, "SESSION_START", tenant, "console.visit", now, subject=who)
        else:
            at = self._time(now)
            begun = Drawn(
                id_, "SESSION_START", tenant, "agent.run", at, session=id_, attributes=said
            )
        begun = self._with_id(begun)
        self._open.append(begun)
        return begun

    def _time(self, now: int) -> int:
        """Mostly just now; some a little earlier, some so early that they are late."""
        dice = self._chance.random()
        if dice < 0.85:
            return now
        if dice < 0.97:
            return now - self._chance.randrange(600 * _SECOND)
        return now - self._chance.randrange(5 * 3_600 * _SECOND)

    def _id(self) -> str:
        self._number += 1
        return f"{self._tag}-{self._number}"

    @staticmethod
    def _with_id(drawn: Drawn) -> Drawn:
        return drawn._replace(attributes={**drawn.attributes, "id": drawn.id})
