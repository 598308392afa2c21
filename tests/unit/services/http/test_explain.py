"""One figure explained over HTTP: its rows, its rules, its places in the log, and two hashes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from meterstream_aggregator.changes import Changes, Place, Presence, Span
from meterstream_aggregator.store.port import Advance
from meterstream_aggregator.store.told import ProducerRow
from meterstream_schemas.placement import lane_of, partition_of
from meterstream_services.explaining import hash_of
from meterstream_services.http.explain import ExplainDocument
from tests.unit.services.http.conftest import moment

if TYPE_CHECKING:
    from tests.unit.services.http.conftest import World

TENANT = "acme"
LANE = lane_of(TENANT)
PARTITION = partition_of(LANE, 2)
HOUR = moment("2026-03-01T10:00") // 3_600_000_000
DAY = {"from": "2026-03-01", "to": "2026-03-02"}


@pytest.fixture
def figure(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Three windows of one meter, one of them late, and where the log has their events."""
    world.now("2026-03-05")
    model = {"group": ("code", "eu"), "partition": PARTITION}
    world.use("llm.tokens", TENANT, "2026-03-01T10:00", 1500, events=2, **model)  # type: ignore[arg-type] # as it takes them
    world.use(
        "llm.tokens", TENANT, "2026-03-01T10:15", 300, partition=PARTITION, group=("chat", "eu")
    )
    world.use(
        "llm.tokens",
        TENANT,
        "2026-03-01T10:15",
        25,
        scale=1,
        arrived="2026-03-03T10:15",
        **model,  # type: ignore[arg-type] # likewise
    )
    world.use("llm.tokens", "other", "2026-03-01T10:00", 9, group=("code", "eu"))
    changes = Changes(
        places={Place(PARTITION, HOUR, 0): Span(7, 90, 4), Place(PARTITION, 5, 0): Span(1, 2, 2)},
        presences={
            Presence(PARTITION, "p1", 0): Span(5, 50, 3),
            Presence(PARTITION, "p2", 0): Span(91, 99, 3),
        },
    )
    world.store.commit(
        [Advance(PARTITION, 1, None, 0, 100, moment("2026-03-04"), 4, 0, 0)], changes
    )
    rows = [ProducerRow("p1", PARTITION, 9, 9, 0, 0, ((LANE, 3, 4, 5),), ((LANE, 9),), 9, False)]

    def producers(_producer: str, *, partition: int, lane: int) -> list[ProducerRow]:
        assert (partition, lane) == (PARTITION, LANE)
        return rows

    monkeypatch.setattr(world.store, "producers", producers)
    return world


def _asked(world: World, **more: str | list[str]) -> dict[str, Any]:
    answer = world.get("/v1/explain", params={"tenant": TENANT, "meter": "llm.tokens"} | DAY | more)
    assert answer.status_code == 200, answer.text
    ExplainDocument.model_validate(answer.json())
    return dict(answer.json())


def test_what_a_figure_is_made_of(figure: World) -> None:
    """Closing rows and late ones, definition and catalogue, lane, places and producers."""
    told = _asked(figure)

    assert (told["value"], told["closing"], told["adjustment"]) == ("1802.5", "1800", "2.5")
    assert (told["events"], told["unit"], told["status"]) == (4, "token", "closing")
    catalogue = figure.store.catalogue()
    version = catalogue.meter("llm.tokens").version
    assert [each["version"] for each in told["definitions"]] == [version]
    assert told["windows"]["count"] == 2
    [late] = told["adjustments"]["first"]
    assert late == {
        "start": "2026-03-01T10:15:00+00:00",
        "group": ["code", "eu"],
        "arrival": "2026-03-03T10:15:00+00:00",
        "events": 1,
        "amount": "2.5",
        "definition": version,
    }
    log = told["log"]
    assert (log["lane"], log["partitions"]) == (LANE, [PARTITION])
    assert log["catalogues"] == [
        {"partition": PARTITION, "from_offset": 0, "version": catalogue.version}
    ]
    assert log["ranges"]["first"] == [{"partition": PARTITION, "first": 7, "last": 90}]
    [producer] = told["producers"]["first"]
    assert (producer["producer"], producer["highest"]) == ("p1", 9)
    assert [(run["from"], run["to"]) for run in producer["missing"]] == [(3, 4)]


def test_a_group_is_explained_alone(figure: World) -> None:
    """Only its rows; the same name twice means either."""
    told = _asked(figure, group=["model=chat"])
    both = _asked(figure, group=["model=chat", "model=code"])

    assert (told["value"], told["windows"]["count"]) == ("300", 1)
    assert both["value"] == "1802.5"
    assert both["group"] == {"model": ["chat", "code"]}


def test_the_hashes(figure: World) -> None:
    """Both follow from the document; time moves neither, an adjustment both, a place one."""
    told = _asked(figure)
    figure.now("2026-04-01")
    later = _asked(figure)
    assert told["hash"] == hash_of(told) == later["hash"]

    figure.store.commit(
        [Advance(PARTITION, 1, 100, 100, 101, moment("2026-03-04"), 1, 0, 0)],
        Changes(places={Place(PARTITION, HOUR, 0): Span(100, 100, 1)}),
    )
    moved = _asked(figure)
    assert moved["hash"] != told["hash"]
    assert moved["figure_hash"] == told["figure_hash"]

    figure.use(
        "llm.tokens", TENANT, "2026-03-01T10:30", 1, group=("code", "eu"), partition=PARTITION,
        arrived="2026-03-04T10:15",
    )  # fmt: skip
    assert _asked(figure)["figure_hash"] != told["figure_hash"]


def test_lists_are_cut_and_say_so(figure: World) -> None:
    """The count and the hash are of all entries, also where one is shown."""
    whole, cut = _asked(figure), _asked(figure, limit="1")

    assert (cut["windows"]["count"], len(cut["windows"]["first"])) == (2, 1)
    assert cut["windows"]["hash"] == whole["windows"]["hash"]
    assert (cut["hash"], cut["figure_hash"]) == (whole["hash"], whole["figure_hash"])


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"events": "true"}, 422, "meterstream explain --events"),
        ({"group": "model"}, 422, "write NAME=VALUE"),
        ({"group": "colour=red"}, 422, "colour"),
        ({"from": "2026-03-01T00:07"}, 422, "from"),
        ({"meter": "none"}, 404, "no meter is called 'none'"),
        ({"tenant": ["a", "b"]}, 422, "tenant"),
    ],
)
def test_what_cannot_be_explained(
    figure: World, changes: dict[str, Any], status: int, words: str
) -> None:
    """Each mistake is named."""
    asked = {"tenant": TENANT, "meter": "llm.tokens"} | DAY | changes

    answer = figure.get("/v1/explain", params=asked)

    assert answer.status_code == status
    assert words in answer.text
