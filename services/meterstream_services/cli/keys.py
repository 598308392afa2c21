"""`meterstream keys`: who may send events, and who may read figures."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from meterstream_services.cli import output
from meterstream_services.cli.addresses import DataOption
from meterstream_services.cli.failures import FAILED, WRONG_ARGUMENTS, CommandError
from meterstream_services.cli.output import Format, FormatOption
from meterstream_services.cli.serve_checks import check_directories
from meterstream_services.cli.serve_options import kept_address

if TYPE_CHECKING:
    from meterstream_services.keys.model import Key
    from meterstream_services.keys.port import Keyring

app = typer.Typer(help="API keys: make, list, revoke and rotate them.", no_args_is_help=True)


class ScopeName(StrEnum):
    """What a key is for."""

    INGEST = "ingest"
    READ = "read"
    ADMIN = "admin"


KeysOption = Annotated[
    str | None,
    typer.Option(
        "--keys",
        envvar="METERSTREAM_KEYS",
        metavar="PATH|URL",
        help="Where `serve` keeps the keys; default DIR/keys.sqlite3.",
    ),
]
KeyArgument = Annotated[
    str, typer.Argument(metavar="ID", help="The key's id: the 8 letters behind mk_live_.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="The answer as JSON.")]

_COLUMNS: Final = (
    "id",
    "scopes",
    "tenants",
    "label",
    "created",
    "expires",
    "state",
    "replaced_by",
    "requests_per_second",
    "events_per_second",
    "bytes_per_second",
    "body_bytes_max",
)
_ID_MAX: Final = 64


@app.command()
def create(
    *,
    scope: Annotated[list[ScopeName], typer.Option("--scope", help="What it is for. Repeatable.")],
    tenant: Annotated[
        list[str] | None, typer.Option(help="A tenant that it is bound to. Repeatable.")
    ] = None,
    all_tenants: Annotated[
        bool, typer.Option("--all-tenants", help="It is for all tenants, later ones too.")
    ] = False,
    expires: Annotated[
        str | None, typer.Option(metavar="LENGTH", help="When it ends, such as 90d; else never.")
    ] = None,
    label: Annotated[str, typer.Option(help="What people know it by.")] = "",
    requests_per_second: Annotated[
        int | None, typer.Option(min=1, help="Most requests, per process of the service.")
    ] = None,
    events_per_second: Annotated[
        int | None, typer.Option(min=1, help="Most events, per process of the service.")
    ] = None,
    bytes_per_second: Annotated[
        int | None, typer.Option(min=1, help="Most bytes of bodies, per process of the service.")
    ] = None,
    body_bytes_max: Annotated[
        int | None, typer.Option(min=1, help="Most bytes of one request's body.")
    ] = None,
    if_none: Annotated[
        bool, typer.Option("--if-none", help="Only if no key was ever made; else do nothing.")
    ] = False,
    write: Annotated[
        Path | None,
        typer.Option(help="Write the key into this new file, for its owner, and do not show it."),
    ] = None,
    data: DataOption = None,
    keys: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and show it, once: only its hash is kept."""
    from meterstream_services.keys.model import Key  # noqa: PLC0415 - loaded by its command
    from meterstream_services.keys.principal import Rate, Scope  # noqa: PLC0415 - loaded by its command
    from meterstream_services.keys.text import hash_of, new_key  # noqa: PLC0415 - loaded by its command

    if bool(tenant) == all_tenants:
        raise CommandError(
            "a key is for tenants by --tenant NAME, or for all by --all-tenants; pass one of them",
            status=WRONG_ARGUMENTS,
        )
    now = _now()
    made = new_key()
    key = Key(
        id=made.id,
        hash=hash_of(made.text),
        scopes=frozenset(Scope(each.value) for each in scope),
        tenants=None if all_tenants else frozenset(tenant or ()),
        created=now,
        label=label,
        expires=None if expires is None else now + _length(expires, "--expires"),
        rate=Rate(requests_per_second, events_per_second, bytes_per_second, body_bytes_max),
    )
    with _keyring(data, keys) as keyring:
        if if_none and keyring.told().generation:
            print("there are keys already; none was made")
            return
        with _written(write, made.text):
            keyring.add(key)
    _show(key, made.text, now, as_json=as_json, written=write)


@app.command("list")
def list_keys(
    *,
    output_format: FormatOption = Format.TABLE,
    data: DataOption = None,
    keys: KeysOption = None,
) -> None:
    """List all keys, ended ones too. The keys themselves are kept nowhere."""
    now = _now()
    with _keyring(data, keys) as keyring:
        found = [_document(key, now) for key in keyring.told().changed]
    if output_format is Format.JSON:
        output.print_json({"keys": found})
        return
    rows = [
        [_cell(document[name]) for name in _COLUMNS]
        for document in (each | {"tenants": each["tenants"] or "all"} for each in found)
    ]
    if output_format is Format.CSV:
        output.print_csv(_COLUMNS, rows)
        return
    output.print_table(_COLUMNS, rows)


@app.command()
def revoke(*, key_id: KeyArgument, data: DataOption = None, keys: KeysOption = None) -> None:
    """End a key for good, in all processes within two seconds."""
    with _keyring(data, keys) as keyring:
        keyring.revoke(_id(key_id), _now())
    print(f"revoked {output.shown(_id(key_id))}")


@app.command()
def rotate(
    *,
    key_id: KeyArgument,
    overlap: Annotated[
        str, typer.Option(metavar="LENGTH", help="How long the old key goes on, such as 24h.")
    ] = "24h",
    data: DataOption = None,
    keys: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key in another's place, and show it once. Both work until the overlap ends."""
    from meterstream_services.keys.model import Key  # noqa: PLC0415 - loaded by its command
    from meterstream_services.keys.text import hash_of, new_key  # noqa: PLC0415 - loaded by its command

    now = _now()
    made = new_key()
    successor = Key(made.id, hash_of(made.text), frozenset(), None, now)
    with _keyring(data, keys) as keyring:
        key = keyring.rotate(_id(key_id), successor, overlap=_length(overlap, "--overlap"))
    _show(key, made.text, now, as_json=as_json, written=None)
    if not as_json:
        print(f"{output.shown(_id(key_id))} ends in {overlap}")


@contextmanager
def _keyring(data: Path | None, keys: str | None) -> Generator[Keyring]:
    """The keys that are meant, with their errors as sentences of this command."""
    from meterstream_services.keys.kept import open_keyring  # noqa: PLC0415 - loaded by its command
    from meterstream_services.keys.model import InvalidKey  # noqa: PLC0415 - loaded by its command
    from meterstream_services.keys.port import KeysError  # noqa: PLC0415 - loaded by its command

    address = kept_address(keys, data, "keys.sqlite3", option="--keys")
    if isinstance(address, Path):
        _check_place(address)
    keyring = open_keyring(address)
    try:
        yield keyring
    except InvalidKey as problem:
        raise CommandError(str(problem), status=WRONG_ARGUMENTS) from problem
    except KeysError as problem:
        raise CommandError(str(problem), status=FAILED) from problem
    finally:
        keyring.close()


def _check_place(path: Path) -> None:
    """Whether a file can be there. Raises `CommandError`."""
    check_directories(keys=path)
    if path.is_dir():
        raise CommandError(
            f"--keys {path}: is a directory; name a file in it, or pass it as --data",
            status=WRONG_ARGUMENTS,
        )


def _show(key: Key, text: str, now: int, *, as_json: bool, written: Path | None) -> None:
    document = _document(key, now)
    if as_json:
        output.print_json(document if written else {"key": text} | document)
        return
    shown = f"written to {output.shown(str(written))}" if written else text
    print(f"key      {shown}")
    print(f"id       {key.id}")
    print(f"scopes   {_cell(document['scopes'])}")
    print(f"tenants  {output.shown(_cell(document['tenants'] or 'all'))}")
    print(f"expires  {document['expires'] or 'never'}")
    if not written:
        print("It is shown this once; only its hash is kept.")


def _document(key: Key, now: int) -> dict[str, Any]:
    return {
        "id": key.id,
        "scopes": sorted(key.scopes),
        "tenants": None if key.tenants is None else sorted(key.tenants),
        "label": key.label,
        "created": _time(key.created),
        "expires": _time(key.expires),
        "revoked": _time(key.revoked),
        "replaced_by": key.replaced_by,
        "state": key.state(now).value,
        "requests_per_second": key.rate.requests_per_second,
        "events_per_second": key.rate.events_per_second,
        "bytes_per_second": key.rate.bytes_per_second,
        "body_bytes_max": key.rate.body_bytes_max,
    }


def _cell(value: object) -> object:
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _time(time: int | None) -> str | None:
    from meterstream_aggregator.civil import format_time  # noqa: PLC0415 - loaded by its command

    return None if time is None else format_time(time, UTC)


def _length(text: str, option: str) -> int:
    from meterstream_aggregator.catalogue_texts import duration  # noqa: PLC0415 - loaded by its command

    try:
        return duration(text)
    except ValueError as problem:
        why = f"{problem}, with at most 6 digits" if text[:-1].isdigit() else problem
        raise CommandError(f"{option} {text[:80]}: {why}", status=WRONG_ARGUMENTS) from problem


def _id(text: str) -> str:
    """An id, also out of a whole key: nobody should have to cut one by hand."""
    from meterstream_services.keys.text import id_of  # noqa: PLC0415 - loaded by its command

    return id_of(text) or text[:_ID_MAX]


@contextmanager
def _written(path: Path | None, text: str) -> Generator[None]:
    """Write a new file first, and take it back if what it belongs to could not be done."""
    if path is None:
        yield
        return
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError as problem:
        raise CommandError(
            f"--write {path}: is there already, and is not written over; name a new file"
        ) from problem
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(f"{text}\n")
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _now() -> int:
    return time.time_ns() // 1000
