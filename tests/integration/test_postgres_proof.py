"""Figures on PostgreSQL proved on a real broker: verified, explained and rebuilt, in every kind."""

from __future__ import annotations

import asyncio
import json
import random
import time
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
import pytest

from meterstream_aggregator.errors import StoreUnavailable
from meterstream_aggregator.store.opening import open_reader, open_store
from meterstream_aggregator.store.standing import canonical_hash, compare
from meterstream_consumers.errors import LogTooShort, RebuildRefused
from meterstream_consumers.settings import WorkerSettings
from meterstream_services import proving
from meterstream_services.cli.main import main
from meterstream_services.http.app import create_app
from meterstream_services.http.settings import Settings
from tests.contract.filling import change_schema
from tests.databases import drop
from tests.integration.day import (
    METER_NAMES,
    METERS,
    PARTITIONS,
    TENANT,
    a_day,
    explained,
    fold,
    positions,
    produce,
    store_text,
    wait_until_folded,
)
from tests.integration.hostile_records import encode
from tests.integration.worker_process import running_worker
from tests.simulation.generator import CATALOGUE, world
from tests.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from meterstream_aggregator.store.address import PostgresAddress, StoreAddress
    from tests.conftest import Broker
    from tests.databases import Postgres

pytestmark = pytest.mark.integration


@pytest.fixture
def settings(
    broker: Broker, topic: str, postgres_address: PostgresAddress, tmp_path: Path
) -> WorkerSettings:
    """A worker of a fresh topic and schema that takes any number of dead letters."""
    catalogue = tmp_path / "meters.yaml"
    catalogue.write_text(METERS, "utf-8")
    return WorkerSettings(
        bootstrap_servers=broker.bootstrap_servers,
        topic=topic,
        group=topic,
        catalogue=catalogue,
        store=postgres_address,
        session_timeout_seconds=6,
        tick_seconds=0.0,
        deadletter_run_max=0,
        deadletter_ratio_max=1.0,
    )


@pytest.fixture
def log(broker: Broker) -> proving.Log:
    """The log of this broker, folded again in batches of an odd size."""
    return proving.Log(bootstrap_servers=broker.bootstrap_servers, batch_events_max=777)


@pytest.mark.timeout(480)
def test_killed_workers_make_the_store_that_the_log_says(
    settings: WorkerSettings, log: proving.Log, postgres: Postgres, tmp_path: Path
) -> None:
    """Kill -9 in between; verified while workers run and after, rebuilt into both kinds."""
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 - a failure must be repeatable
    _, made = world(seed, 1_500)
    records = [(record.partition, encode(record.event)) for record in made]
    settings.catalogue.write_text(CATALOGUE, "utf-8")
    small = replace(settings, batch_events_max=100)
    third = len(records) // 3
    for some in (records[:third], records[third : 2 * third]):
        before = sum(positions(settings.store).values())
        with running_worker(small) as worker:
            produce(settings.bootstrap_servers, settings.topic, some)
            eventually(
                lambda seen=before: sum(positions(settings.store).values()) > seen,  # type: ignore[misc] # bound now
                timeout_seconds=120,
            )
            time.sleep(random.Random(seed).uniform(0, 0.05))
            worker.kill()
            worker.join()
    with running_worker(small):
        produce(settings.bootstrap_servers, settings.topic, records[2 * third :])
        meanwhile = proving.verify(settings.store, log, _scratch(tmp_path, "meanwhile"))
        assert meanwhile.same, [each for each in meanwhile.tables if each.different]
        wait_until_folded(settings)

    whole = proving.verify(settings.store, log, _scratch(tmp_path, "whole"))
    assert whole.same, [each for each in whole.tables if each.different]
    assert whole.records == len(records)
    assert {each.table for each in whole.tables if not each.rows} <= {
        "item", "subject", "refused_number",
    }  # fmt: skip
    schema = postgres.address(f"rebuilt_{seed}")
    targets: list[StoreAddress] = [schema, tmp_path / "rebuilt.sqlite3"]
    try:
        for number, target in enumerate(targets):
            proving.rebuild_like(settings.store, target, log, _scratch(tmp_path, f"{number}"))
            assert not [each for each in compare(settings.store, target) if each.different]
            assert canonical_hash(target) == whole.live_hash
            assert _binding(target) == _binding(settings.store)
        again = _scratch(tmp_path, "again")
        with pytest.raises(RebuildRefused, match="name a schema that is not there"):
            proving.rebuild_like(settings.store, schema, log, again)
    finally:
        drop(schema)


def _scratch(tmp_path: Path, name: str) -> Path:
    made = tmp_path / name
    made.mkdir()
    return made


def _binding(store: StoreAddress) -> object:
    with closing(open_reader(store)) as reader:
        return reader.topic(), reader.catalogues(), reader.catalogue()


def test_figures_add_up_and_what_differs_is_told(
    settings: WorkerSettings,
    log: proving.Log,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """Explained event by event; then one row is altered by hand, which both commands tell."""
    assert isinstance(settings.store, tuple)
    fold(settings, a_day())
    for meter in METER_NAMES:
        status, told = explained(settings, log, meter, capsys)
        assert (told["mismatches"], told["adds_up"], status) == ([], True, 0), (meter, told)
        assert told["events"] == told["of_events"]["events"] > 0
    verify = ["verify", "--store", store_text(settings.store), "--format", "json"]
    verify += ["--bootstrap", log.bootstrap_servers]
    assert main(verify) == 0, capsys.readouterr()
    same = json.loads(capsys.readouterr().out)
    assert same["live_hash"] == same["rebuilt_hash"]
    assert _missing(settings.store, tmp_path) == 0

    change_schema(settings.store, "UPDATE usage SET quantity = 61 WHERE quantity = 60")

    assert main(verify) == 1
    told = json.loads(capsys.readouterr().out)
    [table] = [table for table in told["tables"] if table["different"]]
    [difference] = table["differences"]
    assert (table["table"], difference["live"]["meter"]) == ("usage", "tokens")
    assert (difference["live"]["quantity"], difference["rebuilt"]["quantity"]) == (61, 60)
    status, told = explained(settings, log, "tokens", capsys)
    assert (status, told["adds_up"]) == (1, False)
    [mismatch] = told["mismatches"]
    assert (mismatch["store"]["amount"], mismatch["events"]["amount"]) == ("61", "60")


def _missing(store: PostgresAddress, tmp_path: Path) -> int:
    """What the API says is missing; and that it answers the day's usage."""
    app = create_app(Settings(store, tmp_path / "accounts.sqlite3"))

    async def ask() -> tuple[httpx.Response, ...]:
        transport = httpx.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):
            answers = [
                await client.get(f"/v1/{route}")
                for route in ("reconcile", f"sessions?tenant={TENANT}", "status", "deadletters")
            ]
        return tuple(answers)

    answers = asyncio.run(ask())
    assert [answer.status_code for answer in answers] == [200] * 4, [a.text for a in answers]
    assert answers[1].json()["sessions"]
    return int(answers[0].json()["totals"]["missing_numbers"])


def test_dead_letters_are_opened_and_listed(
    settings: WorkerSettings, log: proving.Log, capsys: pytest.CaptureFixture[str]
) -> None:
    """A refused event of the day is told as one that would be refused again."""
    fold(settings, a_day())
    arguments = ["deadletters", "replay", "--store", store_text(settings.store)]
    arguments += ["--bootstrap", log.bootstrap_servers, "--format", "json"]

    status = main([*arguments, "--fix", "attributes.tokens=5"])

    told = json.loads(capsys.readouterr().out)
    assert status == 0, told
    assert [letter["reason"] for letter in told["deadletters"]] == ["invalid_quantity"]


def test_what_waits_to_leave_is_handed_over(
    settings: WorkerSettings, log: proving.Log, postgres: Postgres, tmp_path: Path
) -> None:
    """Messages of the outbox go with a rebuild; a failed one leaves nothing behind."""
    fold(settings, a_day())
    assert isinstance(settings.store, tuple)
    change_schema(
        settings.store,
        "INSERT INTO outbox (partition, topic, key, value, headers)"
        r""" VALUES (1, 'letters', '\x00ff', '\xff', '[["h", "\u00ff"]]')""",
    )
    target = postgres.address(f"{settings.store.schema[:20]}_new")
    try:
        proving.rebuild_like(settings.store, target, log, _scratch(tmp_path, "one"))
        with closing(open_store(target)) as store, closing(open_store(settings.store)) as live:
            [mine], [other] = (each.outbox(range(PARTITIONS), 9) for each in (live, store))
            assert mine.message == other.message
    finally:
        drop(target)
    change_schema(settings.store, "UPDATE reading SET first_offset = -1 WHERE partition = 0")
    with pytest.raises((LogTooShort, RebuildRefused)):
        proving.rebuild_like(settings.store, target, log, _scratch(tmp_path, "two"))
    with pytest.raises(StoreUnavailable, match="there is no store yet"):
        open_reader(target)
