"""`meterstream accounts move`, `merge`, `unmerge`, `external-id` and `changes`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from meterstream_services.cli import output
from meterstream_services.cli.addresses import DataOption, UrlOption, find_url
from meterstream_services.cli.failures import WRONG_ARGUMENTS, CommandError
from meterstream_services.cli.output import Format, FormatOption

AccountArgument = Annotated[str, typer.Argument(help="Id of the account.")]
DryOption = Annotated[bool, typer.Option("--dry-run", help="Tell what would change, keep nothing.")]
FromOption = Annotated[str, typer.Option("--from", help="From when on, ISO 8601.")]


def move(
    *,
    tenants: Annotated[list[str], typer.Argument(metavar="TENANT...", help="Who moves.")],
    to: Annotated[str, typer.Option("--to", help="The account that they belong to then.")],
    start: FromOption,
    source: Annotated[
        str | None,
        typer.Option("--source", help="Where they belong until then; refused if elsewhere."),
    ] = None,
    dry_run: DryOption = False,
    output_format: FormatOption = Format.TABLE,
    data: DataOption = None,
    url: UrlOption = None,
) -> None:
    """Move tenants to another account at an instant. What was before stays."""
    form = {"tenants": tenants, "account": to, "source": source, "from": start}
    _change("move", form, dry_run, output_format, find_url(url=url, data=data).address)


def merge(
    *,
    account: AccountArgument,
    into: Annotated[str, typer.Option("--into", help="The account that takes its place.")],
    start: FromOption,
    dry_run: DryOption = False,
    output_format: FormatOption = Format.TABLE,
    data: DataOption = None,
    url: UrlOption = None,
) -> None:
    """Merge an account into another at an instant: its tenants then are the other's."""
    form = {"account": account, "into": into, "from": start}
    _change("merge", form, dry_run, output_format, find_url(url=url, data=data).address)


def unmerge(
    *,
    account: AccountArgument,
    dry_run: DryOption = False,
    output_format: FormatOption = Format.TABLE,
    data: DataOption = None,
    url: UrlOption = None,
) -> None:
    """Undo a merge: the account is active, with the tenants that moved at its instant."""
    form = {"account": account}
    _change("unmerge", form, dry_run, output_format, find_url(url=url, data=data).address)


def external_id(
    *,
    account: AccountArgument,
    add: Annotated[
        list[str] | None, typer.Option("--add", metavar="SYSTEM=ID", help="Repeatable.")
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", metavar="SYSTEM=ID", help="Repeatable.")
    ] = None,
    output_format: FormatOption = Format.TABLE,
    data: DataOption = None,
    url: UrlOption = None,
) -> None:
    """List what an account is called in other systems; give it such an id, or take one away."""
    from meterstream_services.client import Api, path_of  # noqa: PLC0415 - loaded by its command

    path = ("v1", "accounts", account, "external-ids")
    steps = [("DELETE", _pair(text, "--remove")) for text in remove or ()]
    steps += [("PUT", _pair(text, "--add")) for text in add or ()]
    with Api(find_url(url=url, data=data).address) as api:
        for method, pair in steps:
            api.send(method, path_of(*path, *pair))
        document = api.get(path_of(*path))
    if output_format is Format.JSON:
        output.print_json(document)
        return
    rows = [[each["system"], each["id"]] for each in document["external_ids"]]
    if output_format is Format.CSV:
        output.print_csv(["system", "id"], rows)
    elif rows:
        output.print_table(["system", "id"], rows)
    else:
        print("no external ids")


def changes(
    *,
    after: Annotated[int, typer.Option(min=0, help="Go on behind this sequence.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 100,
    output_format: FormatOption = Format.TABLE,
    data: DataOption = None,
    url: UrlOption = None,
) -> None:
    """List what was changed in the accounts, oldest first."""
    from meterstream_services.client import Api  # noqa: PLC0415 - loaded by its command

    with Api(find_url(url=url, data=data).address) as api:
        answer = api.get_bytes(
            "/v1/accounts:changes", [("after", str(after)), ("limit", str(limit))]
        )
    if output_format is Format.JSON:
        output.print_json_bytes(answer)
        return
    document = output.parsed(answer)
    columns = ["sequence", "time", "kind", "id", "was", "now"]
    rows = [
        [*(each[name] for name in columns[:4]), _short(each["was"]), _short(each["now"])]
        for each in document["changes"]
    ]
    if output_format is Format.CSV:
        output.print_csv(columns, rows)
        return
    output.print_table(columns, rows, numbers=["sequence"])
    if document["next"] < document["last"]:
        print(f"there are more: --after {document['next']}")


def _change(
    what: str, form: Mapping[str, object], dry_run: bool, output_format: Format, address: str
) -> None:
    from meterstream_services.client import Api  # noqa: PLC0415 - loaded by its command

    with Api(address) as api:
        document: dict[str, Any] = api.send(
            "POST",
            f"/v1/accounts:{what}",
            parameters=[("dry_run", "true")] if dry_run else [],
            json=form,
        ).json()
    if output_format is Format.JSON:
        output.print_json(document)
        return
    columns = ["kind", "id", "was", "now"]
    rows = [
        [each["kind"], each["id"], _short(each["was"]), _short(each["now"])]
        for each in document["changes"]
    ]
    if output_format is Format.CSV:
        output.print_csv(columns, rows)
        return
    if rows:
        output.print_table(columns, rows)
    changed = document["accounts_changed"] + document["tenants_changed"]
    print(f"{'would change' if dry_run else 'changed'}: {changed}")


def _pair(text: str, option: str) -> tuple[str, str]:
    system, equals, found = text.partition("=")
    if not (system and equals and found):
        raise CommandError(f"{option} {text}: write SYSTEM=ID", status=WRONG_ARGUMENTS)
    return system, found


def _short(content: Any) -> str:  # noqa: ANN401 - whatever a change tells of
    """A history as its accounts, each from its instant; an account by what is not default."""
    if content is None or content == []:
        return "-"
    if isinstance(content, list):
        return ", ".join(
            f"{spell['account'] or '-'}" + (f" from {spell['from']}" if spell["from"] else "")
            for spell in content
        )
    if isinstance(content, dict):
        told = {name: value for name, value in content.items() if name != "id" and value}
        return json.dumps(told, ensure_ascii=False)
    return str(content)
