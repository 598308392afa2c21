"""`meterstream deadletters replay`: refused events, mended and sent again."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from meterstream_schemas.events import DEADLETTERS_TOPIC
from meterstream_services.cli import output
from meterstream_services.cli.addresses import (
    NO_STORE,
    BootstrapOption,
    DataOption,
    find_bootstrap,
    find_store,
)
from meterstream_services.cli.failures import WRONG_ARGUMENTS, CommandError
from meterstream_services.cli.output import Format, FormatOption
from meterstream_services.cli.run import RegistryOption
from meterstream_services.cli.serve_options import StoreOption
from meterstream_services.wording import counted

if TYPE_CHECKING:
    from meterstream_services.replaying import Mailroom, Ready

LEFT_OUT: Final = 3
"""Exit status of a replay that had to leave chosen dead letters out."""
_LINE_SECONDS: Final = 5.0
_ROWS_SHOWN: Final = 50
_COLUMNS = ("place", "reason", "tenant", "type", "outcome", "to", "identity", "why")

ReasonOption = Annotated[str | None, typer.Option(help="Of one reason only.")]
SinceOption = Annotated[
    str | None, typer.Option(help="Appended at this time or later: ISO 8601 with offset.")
]
UntilOption = Annotated[str | None, typer.Option(help="Appended before this time.")]
TenantOption = Annotated[str | None, typer.Option(help="Of one tenant only.")]
TypeOption = Annotated[str | None, typer.Option("--type", help="Of one event type only.")]
PartitionOption = Annotated[int | None, typer.Option(min=0, help="Of one partition only.")]
LettersTopicOption = Annotated[
    str, typer.Option("--deadletters-topic", help="Asked for what the log no longer has.")
]


LimitOption = Annotated[
    int | None, typer.Option(min=1, help="At most so many, by partition and offset.")
]
FixOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FIELD=VALUE",
        help="Mend a field: type, tenant, time, quantity, session, subject, key or "
        "attributes.NAME; an empty value takes it out. Repeatable.",
    ),
]
ApplyOption = Annotated[
    bool, typer.Option("--apply", help="Send them; without it they are only told of.")
]


def replay(
    *,
    reason: ReasonOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    tenant: TenantOption = None,
    event_type: TypeOption = None,
    partition: PartitionOption = None,
    limit: LimitOption = None,
    fix: FixOption = None,
    apply: ApplyOption = False,
    output_format: FormatOption = Format.TABLE,
    deadletters_topic: LettersTopicOption = DEADLETTERS_TOPIC,
    store: StoreOption = None,
    bootstrap: BootstrapOption = None,
    data: DataOption = None,
    registry_url: RegistryOption = None,
) -> None:
    """Send dead letters again, mended or as they were; without --apply only tell what would be.

    Each goes under its original number, or under a key where it has none, so that a second replay
    changes nothing. Judged by the catalogue that the store was last counted with.

    Exit status 0: every chosen one can be counted now (and was sent); 3: some were left out, since
    they would be refused again or hold no event; 1: it failed, and may be run again.
    """
    from meterstream_aggregator.store.told import DeadLettersWanted  # noqa: PLC0415 - loaded by its command
    from meterstream_consumers.letterbox import Sender  # noqa: PLC0415 - loaded by its command
    from meterstream_consumers.mending import Outcome, parse_fixes  # noqa: PLC0415 - loaded by its command

    fixes = parse_fixes(fix or ())
    wanted = DeadLettersWanted(
        reason=_reason(reason),
        tenant=tenant,
        type=event_type,
        partition=partition,
        since=_time(since, "--since"),
        until=_time(until, "--until"),
    )
    mailroom = mailroom_of(store, bootstrap, data, deadletters_topic, registry_url)
    address = find_bootstrap(bootstrap=bootstrap, data=data).address
    sender = Sender(address, mailroom.topic) if apply else None
    told, progress = _Telling(output_format), _Progress()
    for page in mailroom.ready(wanted, fixes, limit=limit):
        if sender is not None:
            sender.send([one.parcel for one in page if one.parcel], progress.within)
        told.add(page)
        progress.page(len(page))
    told.end(applied=apply)
    if any(count for outcome, count in told.outcomes.items() if outcome is not Outcome.SEND):
        raise typer.Exit(LEFT_OUT)


class _Telling:
    """What became of each dead letter: all of them for programs, the first for people."""

    def __init__(self, output_format: Format) -> None:
        self._format = output_format
        self._rows: list[dict[str, Any]] = []
        self.outcomes: Counter[str] = Counter()

    def add(self, page: list[Ready]) -> None:
        """One page more."""
        for mended, _ in page:
            self.outcomes[mended.outcome] += 1
            if self._format is not Format.TABLE or len(self._rows) < _ROWS_SHOWN:
                letter, event = mended.letter, mended.event
                self._rows.append(
                    {
                        "place": f"{letter.partition}-{letter.offset}",
                        "reason": letter.reason,
                        "tenant": letter.tenant if event is None else event.tenant,
                        "type": letter.type if event is None else event.type,
                        "outcome": mended.outcome.value,
                        "to": None if event is None else mended.partition,
                        "identity": mended.identity or None,
                        "why": mended.why or None,
                        "unchanged": mended.is_unchanged,
                    }
                )

    def end(self, *, applied: bool) -> None:
        """All were seen."""
        counts: Mapping[str, int] = dict(sorted(self.outcomes.items()))
        if self._format is Format.JSON:
            output.print_json({"applied": applied, "counts": counts, "deadletters": self._rows})
            return
        cells = [[row[name] for name in _COLUMNS] for row in self._rows]
        if self._format is Format.CSV:
            output.print_csv(_COLUMNS, cells)
            return
        if cells:
            output.print_table(_COLUMNS, cells)
        total = sum(counts.values())
        if total > len(cells):
            print(f"and {total - len(cells):,} more")
        print(_summary(counts, applied=applied))


class _Progress:
    """A line on stderr every few seconds."""

    def __init__(self) -> None:
        self._done = 0
        self._next = time.monotonic() + _LINE_SECONDS

    def within(self, sent: int) -> None:
        """So many of the present page are in the log."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _LINE_SECONDS
            print(f"meterstream: {counted(self._done + sent, 'dead letter')} done", file=sys.stderr)

    def page(self, count: int) -> None:
        """A page is done."""
        self._done += count
        self.within(0)


def _summary(counts: Mapping[str, int], *, applied: bool) -> str:
    if not counts:
        return "no dead letters"
    words = {
        "send": "sent" if applied else "would be sent and counted (--apply sends them)",
        "refused": "left out: refused again",
        "impossible": "left out: not replayable",
    }
    return "\n".join(f"{counts[name]:,} {words[name]}" for name in words if name in counts)


def mailroom_of(
    store: str | None,
    bootstrap: str | None,
    data: Path | None,
    deadletters_topic: str,
    registry_url: str | None,
) -> Mailroom:
    """The dead letters of the store that is named. Raises `CommandError` where none is."""
    from meterstream_services.replaying import Mailroom  # noqa: PLC0415 - loaded by its command

    found = find_store(store=store, data=data)
    if found is None:
        raise CommandError(NO_STORE, status=WRONG_ARGUMENTS)
    address = find_bootstrap(bootstrap=bootstrap, data=data).address
    return Mailroom(found, address, deadletters_topic, registry_url)


def _reason(reason: str | None) -> str | None:
    from meterstream_aggregator.refusals import Reason  # noqa: PLC0415 - loaded by its command

    if reason is not None and reason not in set(Reason):
        raise CommandError(
            f"--reason {reason!r:.60} is no reason; there are {', '.join(Reason)}",
            status=WRONG_ARGUMENTS,
        )
    return reason


def _time(text: str | None, option: str) -> int | None:
    from meterstream_aggregator.civil import InvalidQuestion, parse_time  # noqa: PLC0415 - loaded by its command

    if text is None:
        return None
    try:
        return parse_time(text, UTC, field=option)
    except InvalidQuestion as problem:
        raise CommandError(str(problem), status=WRONG_ARGUMENTS) from problem
