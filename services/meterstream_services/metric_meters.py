"""Meters for Unimeter's metrics with thresholds, put to the workers' catalogue while `up` runs.

`serve` writes what METRIC_PUT defined to ``DIR/unimeter.json``. What workers can watch of it (see
`unimeter_catalogue.entries`) joins the catalogue as ``DIR/watched.yaml``:

* a meter stays for ever as it was first counted, also when its metric goes: figures rest on it;
* one that changes gets a further definition, and on a store that has counted anything a new one
  begins at the first whole hour of which nothing can have been counted yet;
* a catalogue that does not load, or that the store would refuse, is left aside and said aloud: the
  workers go on with the one they have.

Asked only while no worker runs: so nobody counts between the look at the store and the start.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from meterstream.compat.unimeter_catalogue import KIND, PREFIX, entries
from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.errors import CatalogueError, StoreError
from meterstream_aggregator.store.binding import check_binding, earliest_change
from meterstream_aggregator.store.opening import Readers
from meterstream_services.catalogues.joining import text_of

if TYPE_CHECKING:
    from meterstream_aggregator.catalogue import Catalogue
    from meterstream_aggregator.store.address import StoreAddress
    from meterstream_aggregator.store.port import StoreReader

DEFINITIONS_NAME: Final = "unimeter.json"
WATCHED_NAME: Final = "watched.yaml"
SETTLED_SECONDS: Final = 0.5
"""How long the file must not change before it is read: several metrics come one after the other."""

Entry = dict[str, Any]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class MetricMeters:
    """What the workers' catalogue is, now. Of the main thread of `up`."""

    def __init__(
        self, data: Path, base: Path, store: StoreAddress, *, say: Callable[[str], None]
    ) -> None:
        """``base`` is the catalogue without any metric; it must load."""
        self.catalogue = base
        self._base: Final = base
        self._file: Final = data / DEFINITIONS_NAME
        self._watched: Final = data / WATCHED_NAME
        self._store: Final = store
        self._say: Final = say
        self._seen: object = None
        self._since = 0.0
        self._told: list[Entry] | None = None

    def changed(self) -> bool:
        """Whether the metrics ask for another catalogue. Cheap while nobody writes the file."""
        try:
            found = self._file.stat()
        except OSError:
            return False
        mark = found.st_mtime_ns, found.st_size, found.st_ino
        if mark != self._seen:
            self._seen, self._since = mark, time.monotonic()
        if not self._since or time.monotonic() < self._since + SETTLED_SECONDS:
            return False
        self._since = 0.0
        return self._wanted() != (self._told or [])

    def join(self) -> None:
        """Put the metrics to the catalogue, as far as that may be. No worker may run."""
        wanted = self._wanted()
        if not wanted and not self._watched.exists():
            return
        self._told = wanted
        try:
            text = self._text(wanted)
            parse_catalogue(text, source=str(self._watched))
        except (CatalogueError, StoreError, OSError, yaml.YAMLError) as problem:
            self._say(f"Unimeter's metrics are not watched as they are now: {problem}")
            self._keep_former()
            return
        partial = self._watched.with_suffix(f".{os.getpid()}.partial")
        partial.write_text(f"# {self._base} and the metrics of {self._file}.\n{text}", "utf-8")
        partial.replace(self._watched)
        self.catalogue = self._watched

    def _wanted(self) -> list[Entry]:
        """Meters and thresholds that the metrics ask for; an empty list where they ask for none."""
        try:
            defined = json.loads(self._file.read_text("utf-8")).get(KIND, {})
            watched = {code: told for code, told in defined.items() if told["thresholds"]}
            meters, thresholds, _ = entries(watched)
        except FileNotFoundError:
            return []
        except (OSError, ValueError, AttributeError, TypeError, KeyError) as problem:
            self._say(f"{self._file}: cannot be read as metrics: {problem!r}")
            return self._told or []
        named = {threshold["meter"] for threshold in thresholds}
        return [meter for meter in meters if meter["name"] in named] + thresholds

    def _text(self, wanted: Sequence[Entry]) -> str:
        """The whole catalogue. Raises what `check_binding` and the readers of files raise."""
        document = yaml.safe_load(self._base.read_text("utf-8"))
        before = self._before()
        if not self._counted():
            return text_of(self._document(document, before, wanted, None))
        readers = Readers(self._store)
        try:
            store = readers.open()
            try:
                return self._checked(store, document, before, wanted)
            finally:
                store.close()
        finally:
            readers.close()

    def _checked(
        self, store: StoreReader, document: Entry, before: Sequence[Entry], wanted: Sequence[Entry]
    ) -> str:
        """The catalogue that this store will take."""
        bound = store.topic()
        appended = max((row.appended for row in store.positions()), default=0)
        base = parse_catalogue(text_of(document), source=str(self._base))
        begin = earliest_change(appended, base.accept_from) if appended else 0
        since = datetime.fromtimestamp(begin // 1_000_000, UTC) if begin else None
        text = text_of(self._document(document, before, wanted, since))
        if bound is not None and appended:
            counted = counted_by(store)
            made = parse_catalogue(text, source=str(self._watched))
            check_binding(bound, counted, bound, made, appended=appended)
        return text

    def _counted(self) -> bool:
        """Whether there may be a store that counted something."""
        return not isinstance(self._store, Path) or self._store.exists()

    def _before(self) -> list[Entry]:
        """The metrics' meters as they are in the catalogue so far."""
        if not self._watched.exists():
            return []
        found = yaml.safe_load(self._watched.read_text("utf-8")).get("meters", [])
        return [meter for meter in found if meter["name"].startswith(PREFIX)]

    @staticmethod
    def _document(
        document: Entry, before: Sequence[Entry], wanted: Sequence[Entry], since: datetime | None
    ) -> Entry:
        meters = [entry for entry in wanted if "aggregate" in entry]
        thresholds = [entry for entry in wanted if "aggregate" not in entry]
        return document | {
            "meters": [*document["meters"], *dated(before, meters, since)],
            "thresholds": [*document.get("thresholds", []), *thresholds],
        }

    def _keep_former(self) -> None:
        """Go on with the catalogue of before, if there is one that loads."""
        if self._watched.exists():
            try:
                parse_catalogue(self._watched.read_text("utf-8"))
            except (CatalogueError, OSError):
                self.catalogue = self._base
            else:
                self.catalogue = self._watched


def dated(before: Sequence[Entry], wanted: Sequence[Entry], since: datetime | None) -> list[Entry]:
    """All meters so far, and those of ``wanted`` that are new or changed, from ``since`` on.

    One that was to begin at ``since`` or later has counted nothing, and gives way.
    """
    found: dict[str, list[Entry]] = {}
    for entry in before:
        found.setdefault(entry["name"], []).append(entry)
    for entry in wanted:
        known = found.setdefault(entry["name"], [])
        if known and _undated(known[-1]) == entry:
            continue
        while known and (since is None or (known[-1].get("from") or _EPOCH) >= since):
            known.pop()
        if not known or _undated(known[-1]) != entry:
            known.append(entry if since is None else entry | {"from": since})
    return [entry for entries_ in found.values() for entry in entries_]


def counted_by(store: StoreReader) -> list[Catalogue]:
    """The catalogues that a store was counted with, the latest last."""
    latest = store.catalogue()
    others = [each for each in store.catalogues().values() if each.version != latest.version]
    return [*others, latest]


def _undated(entry: Mapping[str, Any]) -> Entry:
    return {name: value for name, value in entry.items() if name != "from"}
