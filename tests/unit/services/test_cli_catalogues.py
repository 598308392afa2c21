"""Several catalogues for `up`, `worker` and `check`, and what a store says to a foreign one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from meterstream_aggregator.catalogue_file import load_catalogue, parse_catalogue
from meterstream_aggregator.errors import CatalogueError
from meterstream_aggregator.store.binding import check_binding
from meterstream_aggregator.store.port import TopicBinding
from meterstream_consumers import worker
from meterstream_services import up
from meterstream_services.catalogues import ready
from meterstream_services.catalogues.joining import join_files
from meterstream_services.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

    from meterstream_consumers.settings import WorkerSettings
    from meterstream_services.metric_meters import MetricMeters

MINE = """\
metering_since: 2021-03-01T00:00:00Z
meters:
  - {name: mine, type: mine, aggregate: count, unit: call}
"""
OTHERS = """\
metering_since: 2026-01-01T00:00:00Z
accept_from: 2020-01-01T00:00:00Z
meters:
  - {name: theirs, type: theirs, aggregate: count, unit: call}
"""


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("URL", "DATA", "BOOTSTRAP_SERVERS", "CATALOGUE", "STORE"):
        monkeypatch.delenv(f"METERSTREAM_{name}", raising=False)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """One's own meters and another catalogue."""
    mine, others = tmp_path / "mine.yaml", tmp_path / "others.yaml"
    mine.write_text(MINE)
    others.write_text(OTHERS)
    return mine, others


def test_one_file_is_used_where_it_is(files: tuple[Path, Path], tmp_path: Path) -> None:
    """Nothing is written then."""
    assert join_files(files[:1], tmp_path / "joined.yaml") == files[0]
    assert not (tmp_path / "joined.yaml").exists()


@pytest.mark.parametrize("name", ready())
def test_the_first_says_when_metering_begins(
    name: str, files: tuple[Path, Path], tmp_path: Path
) -> None:
    """So that a store that has counted takes meters of a ready catalogue beside its own."""
    found = load_catalogue(join_files([files[0], ready()[name]], tmp_path / "new" / "joined.yaml"))

    mine, others = parse_catalogue(MINE), load_catalogue(ready()[name])
    assert (found.metering_since, found.accept_from) == (mine.metering_since, mine.accept_from)
    assert {meter.name for meter in found.meters} == {"mine"} | {
        meter.name for meter in others.meters
    }


def test_a_clash_names_both_files(files: tuple[Path, Path], tmp_path: Path) -> None:
    """And what is called the same in them."""
    files[1].write_text(OTHERS.replace("name: theirs", "name: mine"))

    with pytest.raises(CatalogueError, match=r"mine\.yaml and .*others\.yaml both have .*'mine'"):
        join_files(files, tmp_path / "joined.yaml")


def test_a_mistake_is_told_with_its_own_file_and_line(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    """Not with those of what was joined."""
    files[1].write_text(OTHERS.replace("count", "cuont"))

    with pytest.raises(CatalogueError, match=r"others\.yaml:4: "):
        join_files(files, tmp_path / "joined.yaml")


def test_up_takes_several(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workers get one file in the data directory."""
    given: list[Path] = []

    class Machine:
        def __init__(self, _settings: object, meters: MetricMeters, *_rest: object) -> None:
            given.append(meters.catalogue)

        def run(self) -> int:
            return 0

    monkeypatch.setattr(up, "_Machine", Machine)
    data = tmp_path / "data"
    options = [part for path in files for part in ("--catalogue", str(path))]

    assert main(["up", "--data", str(data), "--http", "127.0.0.1:0", *options]) == 0

    assert given == [data / "catalogue.yaml"]
    assert [meter.name for meter in load_catalogue(given[0]).meters] == ["mine", "theirs"]


def test_check_tries_each(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """By itself: one that is broken does not hide the other."""
    files[1].write_text("")
    options = [part for path in files for part in ("--catalogue", str(path))]

    assert main(["check", "--url", "http://127.0.0.1:1", *options, "--format", "json"]) == 1

    found = [
        (row["value"], row["result"])
        for row in json.loads(capsys.readouterr().out)["checks"]
        if row["what"] == "catalogue"
    ]
    assert found == [(str(files[0]), "ok"), (str(files[1]), "FAILED")]


def test_a_store_of_another_beginning_names_the_ways_out(
    files: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With the option of `meterstream catalogue`, and the instant that the store has."""

    def refused(settings: WorkerSettings, _: object) -> int:
        topic = TopicBinding("t", "id", 1)
        wanted = load_catalogue(settings.catalogue)
        check_binding(topic, [parse_catalogue(MINE)], topic, wanted, appended=1)
        return 0

    monkeypatch.setattr(worker, "run", refused)
    command = ["worker", "--bootstrap", "127.0.0.1:1", "--store", str(tmp_path / "s.sqlite3")]

    assert main([*command, "--catalogue", str(files[1])]) == 78
    said = capsys.readouterr().err
    assert "metering_since differs" in said
    assert "`meterstream catalogue NAME --metering-since 2021-03-01T00:00:00Z`" in said
    assert "new data directory" in said
    both = [part for path in files for part in ("--catalogue", str(path))]
    assert main([*command, *both]) == 0
