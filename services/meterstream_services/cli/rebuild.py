"""`meterstream rebuild` and `verify`: the store made again from the log, and held against it."""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from meterstream_schemas.events import EVENTS_TOPIC
from meterstream_services.cli import output
from meterstream_services.cli.addresses import (
    NO_STORE,
    BootstrapOption,
    DataOption,
    find_bootstrap,
    find_store,
    store_address,
)
from meterstream_services.cli.failures import WRONG_ARGUMENTS, CommandError
from meterstream_services.cli.output import Format, FormatOption
from meterstream_services.cli.run import RegistryOption, TopicOption
from meterstream_services.cli.serve_options import StoreOption
from meterstream_services.wording import counted

if TYPE_CHECKING:
    from meterstream_services.proving import Verdict

LINE_SECONDS: Final = 5.0
"""How often progress is told where stderr is no terminal."""
_TERMINAL_SECONDS: Final = 0.2
_CELLS_MAX: Final = 200

ProgressOption = Annotated[
    bool | None,
    typer.Option(
        "--progress/--no-progress", help="Tell on stderr how far it is; default: in a terminal."
    ),
]


def rebuild(
    *,
    into: Annotated[
        str,
        typer.Option(
            "--into",
            metavar="PATH|URL",
            help="The new store: a file not yet there, or a postgresql:// URL with a new schema.",
        ),
    ],
    store: StoreOption = None,
    catalogue: Annotated[
        # No variable: what is set for workers must not change what history was counted by.
        Path | None, typer.Option("--catalogue", help="Count everything by these meters instead.")
    ] = None,
    topic: TopicOption = EVENTS_TOPIC,
    progress: ProgressOption = None,
    bootstrap: BootstrapOption = None,
    data: DataOption = None,
    registry_url: RegistryOption = None,
) -> None:
    """Fold the log again into an empty store.

    With a store (--store, or that of --data) up to its positions, each part of the log by the
    catalogue that read it; with --catalogue by that one throughout. Without a store, all of the
    log by --catalogue.
    """
    from meterstream_aggregator.catalogue_file import load_catalogue  # noqa: PLC0415 - loaded by its command
    from meterstream_services import proving  # noqa: PLC0415 - loaded by its command

    live, target = find_store(store=store, data=data), store_address(into, option="--into")
    if live is None and catalogue is None:
        raise CommandError(
            "neither a store nor a catalogue is named; pass --store FILE (or --data DIR) to repeat "
            "its history, or --catalogue FILE to fold all that the log has",
            status=WRONG_ARGUMENTS,
        )
    meters = None if catalogue is None else load_catalogue(catalogue)
    log = proving.Log(
        bootstrap_servers=find_bootstrap(bootstrap=bootstrap, data=data).address,
        registry_url=registry_url,
    )
    shown = _Progress(progress)
    if live is not None:
        with _scratch() as scratch:
            plan, records = proving.rebuild_like(
                live, target, log, scratch, catalogue=meters, told=shown.told
            )
    else:
        assert meters is not None
        plan, records = proving.rebuild_all(target, log, topic, meters, told=shown.told)
        for partition, first in sorted(plan.begins.items()):
            if first > 0:
                print(
                    f"meterstream: partition {partition} begins at offset {first}: what was before "
                    "is gone from the log and is not in this store",
                    file=sys.stderr,
                )
    print(
        f"{target}: {counted(records, 'record')} of {counted(len(plan.begins), 'partition')} "
        f"folded in {shown.seconds():.1f} s"
    )


def verify(
    *,
    store: StoreOption = None,
    progress: ProgressOption = None,
    output_format: FormatOption = Format.TABLE,
    bootstrap: BootstrapOption = None,
    data: DataOption = None,
    registry_url: RegistryOption = None,
) -> None:
    """Fold the log again up to the store's positions and compare, row by row.

    Workers may go on meanwhile. Exit status 0: all the same; 1: something differs. Needs room for
    two copies of the store in the directory for temporary files (TMPDIR).
    """
    from meterstream_services import proving  # noqa: PLC0415 - loaded by its command

    live = find_store(store=store, data=data)
    if live is None:
        raise CommandError(NO_STORE, status=WRONG_ARGUMENTS)
    log = proving.Log(
        bootstrap_servers=find_bootstrap(bootstrap=bootstrap, data=data).address,
        registry_url=registry_url,
    )
    shown = _Progress(progress)
    with _scratch() as scratch:
        verdict = proving.verify(live, log, scratch, told=shown.told)
    if output_format is Format.JSON:
        output.print_json(_document(verdict, shown.seconds()))
    elif output_format is Format.CSV:
        output.print_csv(_COLUMNS, _rows(verdict))
    else:
        _print(verdict, shown.seconds())
    raise typer.Exit(0 if verdict.same else 1)


@contextmanager
def _scratch() -> Generator[Path]:
    """A directory for the while. SIGTERM takes it away as Ctrl-C does: it may hold two stores."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        with tempfile.TemporaryDirectory(prefix="meterstream-") as scratch:
            yield Path(scratch)
    finally:
        signal.signal(signal.SIGTERM, before)


_COLUMNS: Final = ("table", "rows", "different", "live_hash", "rebuilt_hash")


def _rows(verdict: Verdict) -> list[list[object]]:
    return [
        [found.table, found.rows, found.different, found.live_hash, found.rebuilt_hash]
        for found in verdict.tables
    ]


def _document(verdict: Verdict, seconds: float) -> dict[str, Any]:
    from meterstream_aggregator.store.canonical import LEFT_OUT  # noqa: PLC0415 - loaded by its command

    return {
        "same": verdict.same,
        "records": verdict.records,
        "seconds": round(seconds, 3),
        "live_hash": verdict.live_hash,
        "rebuilt_hash": verdict.rebuilt_hash,
        "positions": {str(each): end for each, end in sorted(verdict.plan.ends.items())},
        "tables": [
            {
                **dict(zip(_COLUMNS, row, strict=True)),
                "differences": [
                    {
                        side: None
                        if cells is None
                        else dict(zip(found.columns, cells, strict=True))
                        for side, cells in difference._asdict().items()
                    }
                    for difference in found.differences
                ],
            }
            for found, row in zip(verdict.tables, _rows(verdict), strict=True)
        ],
        "left_out": dict(LEFT_OUT),
    }


def _print(verdict: Verdict, seconds: float) -> None:
    from meterstream_aggregator.store.canonical import LEFT_OUT  # noqa: PLC0415 - loaded by its command

    output.print_table(
        ["table", "rows", "different"],
        [row[:3] for row in _rows(verdict)],
        numbers=["rows", "different"],
    )
    for found in verdict.tables:
        if found.different:
            print(f"{found.table}: {counted(found.different, 'different row')}, the first of them:")
        for difference in found.differences:
            for side, cells in difference._asdict().items():
                print(f"  {side:8}{_told(found.columns, cells)}")
    print("not compared, since it is no function of the log:")
    for name, why in LEFT_OUT.items():
        print(f"  {name}: {why}")
    print(f"live    {verdict.live_hash}")
    print(f"rebuilt {verdict.rebuilt_hash}")
    rate = verdict.records / max(seconds, 0.001)
    what = "the same" if verdict.same else "NOT the same"
    print(
        f"{what}: {counted(verdict.records, 'record')} folded again in {seconds:.1f} s "
        f"({rate:,.0f}/s)"
    )


def _told(columns: tuple[str, ...], cells: tuple[Any, ...] | None) -> str:
    if cells is None:
        return "no such row"
    pairs = zip(columns, cells, strict=True)
    return " ".join(f"{name}={output.shown(cell)[:_CELLS_MAX]}" for name, cell in pairs)


class _Progress:
    """How far the folding is, on stderr: in place in a terminal, else a line now and then."""

    def __init__(self, wanted: bool | None) -> None:
        self._in_place = sys.stderr.isatty()
        self._wanted = self._in_place if wanted is None else wanted
        self._every = _TERMINAL_SECONDS if self._in_place else LINE_SECONDS
        self._began = time.monotonic()
        self._next = self._began

    def seconds(self) -> float:
        """Since the command began."""
        return time.monotonic() - self._began

    def told(self, done: int, total: int) -> None:
        """So many offsets of so many are folded."""
        if not self._wanted or (time.monotonic() < self._next and done < total):
            return
        self._next = time.monotonic() + self._every
        rate = done / max(self.seconds(), 0.001)
        percent = 100 * done // max(total, 1)
        line = f"meterstream: {done:,} of {total:,} records folded ({percent} %), {rate:,.0f}/s"
        ending = "\n" if not self._in_place or done >= total else ""
        start = "\r" if self._in_place else ""
        print(f"{start}{line}", end=ending, file=sys.stderr, flush=True)
