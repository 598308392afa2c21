"""`meterstream deadletters`: what was not counted, and why; mended and sent again."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator
from datetime import UTC
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from meterstream_schemas.events import DEADLETTERS_TOPIC
from meterstream_services.cli import output
from meterstream_services.cli.addresses import BootstrapOption, DataOption, UrlOption, find_url
from meterstream_services.cli.failures import WRONG_ARGUMENTS, CommandError
from meterstream_services.cli.output import Format, FormatOption
from meterstream_services.cli.replay import (
    LettersTopicOption,
    PartitionOption,
    ReasonOption,
    SinceOption,
    TenantOption,
    TypeOption,
    UntilOption,
    mailroom_of,
    replay,
)
from meterstream_services.cli.run import RegistryOption
from meterstream_services.cli.serve_options import StoreOption
from meterstream_services.wording import counted

if TYPE_CHECKING:
    from meterstream_services.replaying import Opened

app = typer.Typer(help="Records that were not counted, each with its reason.", no_args_is_help=True)

_COLUMNS = (
    "partition", "offset", "reason", "detail", "tenant", "type", "producer", "lane", "sequence",
    "append_time",
)  # fmt: skip


_SCREENFUL: Final = 20
"""More rows than these begin with a summary."""


@app.callback()
def group() -> None:
    """Records that were not counted, each with its reason."""


app.command()(replay)


@app.command("list")
def list_command(
    *,
    producer: Annotated[str | None, typer.Option(help="Of one producer's id only.")] = None,
    reason: ReasonOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    tenant: TenantOption = None,
    event_type: TypeOption = None,
    partition: PartitionOption = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 100,
    output_format: FormatOption = Format.TABLE,
    data: DataOption = None,
    url: UrlOption = None,
) -> None:
    """List dead letters, the newest first."""
    from meterstream_services.client import Api  # noqa: PLC0415 - loaded by its command

    named = {
        "producer": producer, "reason": reason, "since": since, "until": until, "tenant": tenant,
        "type": event_type, "partition": partition,
    }  # fmt: skip
    parameters = [("limit", str(limit))]
    parameters += [(name, str(value)) for name, value in named.items() if value is not None]
    with Api(find_url(url=url, data=data).address) as api:
        answer = api.get_bytes("/v1/deadletters", parameters)
    if output_format is Format.JSON:
        output.print_json_bytes(answer)
        return
    letters = output.parsed(answer)["deadletters"]
    rows = [[letter.get(name) for name in _COLUMNS] for letter in letters]
    if output_format is Format.CSV:
        output.print_csv(_COLUMNS, rows)
    elif rows:
        if len(rows) > _SCREENFUL:
            _print_summary(letters, is_all=len(rows) < limit)
        output.print_table(_COLUMNS, rows, numbers=["partition", "offset", "lane", "sequence"])
    else:
        print("no dead letters")


def _print_summary(letters: list[dict[str, Any]], *, is_all: bool) -> None:
    """How many there are of each reason and type, the most first."""
    sums = Counter((letter.get("reason"), letter.get("type")) for letter in letters)
    output.print_table(
        ("reason", "type", "dead letters"),
        [(*kind, number) for kind, number in sums.most_common()],
        numbers=["dead letters"],
        title=f"{'' if is_all else 'the newest '}{counted(len(letters), 'dead letter')}",
    )


@app.command()
def show(
    place: Annotated[str, typer.Argument(metavar="PARTITION-OFFSET", help="Such as 3-1234.")],
    *,
    as_base64: Annotated[bool, typer.Option("--base64", help="Bytes as base64, not hex.")] = False,
    output_format: FormatOption = Format.TABLE,
    deadletters_topic: LettersTopicOption = DEADLETTERS_TOPIC,
    store: StoreOption = None,
    bootstrap: BootstrapOption = None,
    data: DataOption = None,
    registry_url: RegistryOption = None,
) -> None:
    """Show one dead letter: its event, why it was refused, its headers and its bytes.

    Exit status 1: there is no such dead letter.
    """
    partition, dash, offset = place.partition("-")
    if not (dash and partition.isdecimal() and offset.isdecimal()):
        raise CommandError(
            f"{place!r:.60} is no place; write PARTITION-OFFSET such as 3-1234",
            status=WRONG_ARGUMENTS,
        )
    mailroom = mailroom_of(store, bootstrap, data, deadletters_topic, registry_url)
    opened = mailroom.find((int(partition), int(offset)))
    if opened is None:
        raise CommandError(f"no dead letter lies at {place}; `meterstream deadletters list` shows")
    document = _document(opened, as_base64=as_base64)
    if output_format is Format.JSON:
        output.print_json(document)
        return
    rows = [(name, text) for name, value in document.items() for name, text in _lines(name, value)]
    if output_format is Format.CSV:
        output.print_csv(("field", "value"), rows)
    else:
        output.print_table(("field", "value"), rows)


def _document(opened: Opened, *, as_base64: bool) -> dict[str, Any]:
    from meterstream_aggregator.civil import format_time  # noqa: PLC0415 - loaded by its command

    def shown(value: bytes | None) -> str | None:
        if value is None:
            return None
        return base64.b64encode(value).decode() if as_base64 else value.hex()

    letter, original, event, why = opened
    document: dict[str, Any] = letter._asdict()
    document["append_time"] = format_time(letter.append_time, UTC)
    document["event"] = None if event is None else _event(event._asdict())
    document["undecodable"] = why if event is None else None
    document["source"] = None if original is None else original.source
    document["key"] = None if original is None else shown(original.key)
    headers = () if original is None else original.headers
    document["headers"] = [[name, shown(value)] for name, value in headers]
    document["bytes"] = None if original is None else shown(original.value)
    return document


def _event(fields: dict[str, Any]) -> dict[str, Any]:
    return fields | {"kind": fields["kind"].value, "attributes": dict(fields["attributes"])}


def _lines(name: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for inner, each in value.items():
            yield from _lines(f"{name}.{inner}", each)
    elif isinstance(value, list):
        for header, each in value:
            yield f"header {header}", each
    elif value is not None:
        yield name, value
