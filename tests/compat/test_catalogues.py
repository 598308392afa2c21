"""The ready catalogues, and the command that lists, prints and joins them."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING

import pytest
import typer.main
from typer.core import TyperGroup

from meterstream.compat.unimeter import (
    AggType,
    AlertThreshold,
    DimensionFilter,
    MetricSchema,
    PeriodType,
)
from meterstream.compat.unimeter_catalogue import KIND, meter_name, to_definition
from meterstream_aggregator.catalogue import Aggregate, Catalogue
from meterstream_aggregator.catalogue_file import load_catalogue, parse_catalogue
from meterstream_services.catalogues import ready
from meterstream_services.cli.app import app
from meterstream_services.cli.main import main
from tests.compat.documents import SEEDS
from tests.compat.guides import commands_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Printed = Callable[..., Catalogue]

NOT_LISTED = "document.basic.page"
"""What the quick start of meter-lib's document posts, though its list of meters has it not."""


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Printed:
    """The catalogue that the command prints for some arguments."""

    def run(*arguments: str) -> Catalogue:
        assert main(["catalogue", *arguments]) == 0
        return parse_catalogue(capsys.readouterr().out)

    return run


@pytest.mark.parametrize("name", ready())
def test_ready_catalogues_are_accepted(name: str, printed: Printed) -> None:
    """Each has meters, and is printed as it is."""
    assert printed(name) == load_catalogue(ready()[name])


def test_the_command_lists_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a name the command says which there are."""
    assert main(["catalogue"]) == 0

    assert capsys.readouterr().out.split() == list(ready())
    assert {"unimeter", "meter_lib"} <= set(ready())


def test_all_meters_of_the_document_are_there() -> None:
    """The 18 meters of meter-lib, sums of volume and sessions of performance."""
    path = SEEDS / "meter_lib.md"
    if not path.exists():
        pytest.skip("the document meter_lib.md is not here")
    listed = dict(
        re.findall(r'meter_id: "([^"]+)" name: "[^"]+" type: "([a-z]+)"', path.read_text("utf-8"))
    )

    meters = {meter.name: meter for meter in load_catalogue(ready()["meter_lib"]).meters}

    assert len(listed) == 18
    assert set(meters) == set(listed) | {NOT_LISTED}
    for name, kind in listed.items():
        aggregate = Aggregate.SUM if kind == "volume" else Aggregate.SESSION
        assert (meters[name].type, meters[name].aggregate) == (name, aggregate)


def test_the_five_aggregations_are_there() -> None:
    """Unimeter's generic meters keep every metric and all its dimensions apart.

    There are five for accounts that are tenants, and five for the accounts of one tenant.
    """
    meters = load_catalogue(ready()["unimeter"]).meters

    for five, groups in (
        (meters[:5], ("metric", "dimensions")),
        (meters[5:], ("account", "metric", "dimensions")),
    ):
        assert [meter.aggregate.value for meter in five] == [
            "count", "sum", "max", "latest", "unique",
        ]  # fmt: skip
        assert {meter.group_by for meter in five} == {groups}
    assert {meter.type for meter in meters[:5]}.isdisjoint(meter.type for meter in meters[5:])


def test_several_become_one(printed: Printed) -> None:
    """Joined catalogues hold the meters of each, in their order."""
    both = printed("unimeter", "meter_lib")

    assert both.meters == tuple(
        meter
        for name in ("unimeter", "meter_lib")
        for meter in load_catalogue(ready()[name]).meters
    )


def test_all_of_them_fit_together(printed: Printed) -> None:
    """No two ready catalogues claim one name."""
    assert {meter.name for meter in printed(*ready()).meters} >= {"unimeter.sum", NOT_LISTED}


def test_names_that_clash_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two catalogues with one meter name are refused, and the sentence names all three."""
    other = tmp_path / "other.yaml"
    other.write_text("meters: [{name: unimeter.sum, aggregate: count}]\n")
    found = {"unimeter": ready()["unimeter"], "other": other}
    monkeypatch.setattr("meterstream_services.catalogues.ready", lambda: found)

    assert main(["catalogue", "unimeter", "other"]) == 1

    said = capsys.readouterr().err
    assert "unimeter and other both have meters called 'unimeter.sum'" in said


def test_metering_may_begin_at_another_time(printed: Printed) -> None:
    """--metering-since is put in place of the file's, and what is accepted stays."""
    before = load_catalogue(ready()["meter_lib"])

    after = printed("meter_lib", "--metering-since", "2026-11-21T00:00:00Z")

    assert after.metering_since == 1_795_219_200_000_000
    assert (after.meters, after.accept_from) == (before.meters, before.accept_from)


def test_defined_metrics_get_meters_and_thresholds(
    tmp_path: Path, printed: Printed, capsys: pytest.CaptureFixture[str]
) -> None:
    """--definitions adds a meter for each metric: its aggregation, filters, thresholds, date."""
    metrics = [
        MetricSchema("api_calls", AggType.COUNT, thresholds=[AlertThreshold("soft", 10)]),
        MetricSchema(
            "größe €",
            AggType.MAX,
            period_type=PeriodType.CALENDAR,
            billing_cycle_day=15,
            filters=[DimensionFilter("provider", ["aws"]), DimensionFilter("value", [])],
            thresholds=[AlertThreshold("free tier", 100)],
        ),
        MetricSchema("seats", AggType.COUNT_UNIQUE),
    ]
    file = tmp_path / "definitions.json"
    file.write_text(json.dumps({KIND: {each.code: to_definition(each) for each in metrics}}))

    made = printed("unimeter", "--definitions", str(file), "--from", "2026-11-21T10:00:00Z")

    count, biggest, seats = made.meters[10:]
    assert (count.name, count.aggregate) == ("unimeter.metric.api_calls", Aggregate.COUNT)
    assert (biggest.name, biggest.aggregate) == (meter_name("größe €"), Aggregate.MAX)
    assert biggest.group_by == ("provider", "property.value")
    assert [condition.values for condition in biggest.where] == [("größe €",)]
    assert (seats.value, seats.operation) == ("attributes.value", "operation")
    assert {meter.since for meter in made.meters[10:]} == {1_795_255_200_000_000}
    [threshold] = made.thresholds
    assert (threshold.meter, threshold.every, threshold.anchor) == (biggest.name, "1mo", 15)
    assert threshold.at == ("100",)


def test_thresholds_that_nobody_can_watch_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A threshold over 30 days is not printed; stderr says which and why."""
    metric = MetricSchema("api_calls", AggType.COUNT, thresholds=[AlertThreshold("soft", 10)])
    file = tmp_path / "definitions.json"
    file.write_text(json.dumps({KIND: {metric.code: to_definition(metric)}}))

    assert main(["catalogue", "unimeter", "--definitions", str(file)]) == 0

    told = capsys.readouterr()
    assert "threshold 'soft' of metric 'api_calls': workers watch days" in told.err
    assert parse_catalogue(told.out).thresholds == ()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nobody"], "no ready catalogue is called 'nobody'; there are: "),
        (["meter_lib", "--definitions", "x"], "--definitions are of the catalogue unimeter"),
        (["unimeter", "--from", "2026-11-21T10:00:00Z"], "--from dates the meters of"),
        (["unimeter", "--metering-since", "2026-11-21"], "is not an instant with a zone"),
        (["unimeter", "--definitions", "nowhere.json"], "nowhere.json: cannot be read"),
        (["unimeter", "--definitions", "list.json"], "list.json: is not a file of definitions"),
        (["unimeter", "--definitions", "odd.json"], "odd.json: is not a file of definitions"),
    ],
)
def test_mistakes_are_told_in_a_sentence(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What cannot be printed is said on stderr, and the exit status is not 0."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "odd.json").write_text(json.dumps({KIND: {"m": {"agg_type": "AVERAGE"}}}))

    assert main(["catalogue", *arguments]) != 0

    told = capsys.readouterr()
    assert sentence in told.err
    assert told.out == ""


@pytest.mark.parametrize("line", commands_of("unimeter") + commands_of("meter_lib"))
def test_commands_of_the_guides_are_accepted(line: str) -> None:
    """Each command line has a command and options that exist."""
    program = typer.main.get_command(app)
    words = [word for word in shlex.split(line.partition(">")[0])[1:] if word]

    assert isinstance(program, TyperGroup)
    with program.make_context("meterstream", words) as context:
        name, command, rest = program.resolve_command(context, words)
        assert command is not None
        with command.make_context(name, rest, parent=context) as inner:
            assert inner.command is command
