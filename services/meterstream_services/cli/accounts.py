"""`meterstream accounts`: who pays, and which tenants belong to whom since when."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from meterstream_services.cli import output
from meterstream_services.cli.account_import import export_accounts, import_accounts
from meterstream_services.cli.account_moves import changes, external_id, merge, move, unmerge
from meterstream_services.cli.addresses import DataOption, UrlOption, find_url
from meterstream_services.cli.failures import WRONG_ARGUMENTS, CommandError
from meterstream_services.cli.output import Format, FormatOption

app = typer.Typer(help="Accounts, and the tenants that belong to them.", no_args_is_help=True)
app.command("import")(import_accounts)
app.command("export")(export_accounts)
app.command()(move)
app.command()(merge)
app.command()(unmerge)
app.command("external-id")(external_id)
app.command()(changes)

_COLUMNS: Final = ("id", "name", "zone", "billing_anchor", "labels", "status")

AccountArgument = Annotated[str, typer.Argument(help="Id of the account.")]
TenantArgument = Annotated[str, typer.Argument(help="Name of the tenant.")]


@app.command("list")
def list_accounts(
    *,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 1000,
    after: Annotated[str | None, typer.Option(help="Go on behind this account.")] = None,
    output_format: FormatOption = Format.TABLE,
    data: DataOption = None,
    url: UrlOption = None,
) -> None:
    """List accounts."""
    from meterstream_services.client import Api  # noqa: PLC0415 - loaded by its command

    parameters = [("limit", str(limit))]
    parameters += [("after", after)] if after else []
    with Api(find_url(url=url, data=data).address) as api:
        answer = api.get_bytes("/v1/accounts", parameters)
    if output_format is Format.JSON:
        output.print_json_bytes(answer)
        return
    document = output.parsed(answer)
    _print(document["accounts"], output_format)
    if output_format is Format.TABLE and document.get("next"):
        print(f"there are more: --after {document['next']}")


@app.command()
def show(
    *,
    account: AccountArgument,
    output_format: FormatOption = Format.TABLE,
    data: DataOption = None,
    url: UrlOption = None,
) -> None:
    """Show an account and the tenants that belong to it now."""
    from meterstream_services.client import Api, path_of  # noqa: PLC0415 - loaded by its command

    with Api(find_url(url=url, data=data).address) as api:
        found = api.get(path_of("v1", "accounts", account))
        tenants = api.get(path_of("v1", "accounts", account, "tenants"))["tenants"]
    if output_format is Format.JSON:
        output.print_json(found | {"tenants": tenants})
        return
    _print([found], output_format)
    if output_format is Format.TABLE:
        print(f"tenants: {', '.join(map(output.shown, tenants)) or 'none'}")


@app.command("set")
def set_account(
    *,
    account: AccountArgument,
    name: Annotated[str | None, typer.Option(help="Its name.")] = None,
    zone: Annotated[str | None, typer.Option(help="IANA zone of its days and months.")] = None,
    billing_anchor: Annotated[
        int | None, typer.Option(min=1, max=31, help="Day on which its months begin.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE; NAME= removes it. Repeatable; other labels stay."),
    ] = None,
    status: Annotated[str | None, typer.Option(help="active, suspended or closed.")] = None,
    tenant: Annotated[
        list[str] | None, typer.Option(help="A tenant that belongs to it. Repeatable.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(help="From when the tenants belong to it, ISO 8601; default: for all time."),
    ] = None,
    output_format: FormatOption = Format.TABLE,
    data: DataOption = None,
    url: UrlOption = None,
) -> None:
    """Make an account, or change the fields that are given; map tenants to it."""
    from meterstream_services.client import Api, path_of  # noqa: PLC0415 - loaded by its command

    given = {"name": name, "zone": zone, "billing_anchor": billing_anchor, "status": status}
    if since is not None and not tenant:
        raise CommandError("--since is about tenants; add --tenant", status=WRONG_ARGUMENTS)
    path = path_of("v1", "accounts", account)
    with Api(find_url(url=url, data=data).address) as api:
        known, headers = _known(api, path)
        fields = {
            field: value
            for field, value in known.items()
            if field not in {"id", "merged_into", "merged_from"}
        }
        fields |= {field: value for field, value in given.items() if value is not None}
        fields["labels"] = _labels(known.get("labels", {}), label or [])
        # The tag: what somebody else changed since it was read is not overwritten.
        found = api.send("PUT", path, json=fields, headers=headers).json()
        for one in tenant or []:
            membership = {"account": account} | ({"from": since} if since else {})
            api.send("PUT", path_of("v1", "tenants", one, "account"), json=membership)
    if output_format is Format.JSON:
        output.print_json(found)
    else:
        _print([found], output_format)


@app.command()
def tenant(
    *,
    name: TenantArgument,
    at: Annotated[str | None, typer.Option(help="Instant, ISO 8601; default: now.")] = None,
    history: Annotated[bool, typer.Option("--history", help="All its accounts.")] = False,
    output_format: FormatOption = Format.TABLE,
    data: DataOption = None,
    url: UrlOption = None,
) -> None:
    """Look up the account of a tenant."""
    from meterstream_services.client import Api, path_of  # noqa: PLC0415 - loaded by its command

    if history and at is not None:
        raise CommandError("--history is of all times; leave out --at", status=WRONG_ARGUMENTS)
    parts = ("account", "history") if history else ("account",)
    with Api(find_url(url=url, data=data).address) as api:
        answer = api.get_bytes(
            path_of("v1", "tenants", name, *parts), [("at", at)] if at is not None else []
        )
    if output_format is Format.JSON:
        output.print_json_bytes(answer)
        return
    document = output.parsed(answer)
    columns = ["tenant", "account", "from", "to"]
    spells = document["history"] if history else [_spell(document)]
    rows = [[name, spell["account"], spell["from"], spell["to"]] for spell in spells]
    if output_format is Format.CSV:
        output.print_csv(columns, rows)
    else:
        output.print_table(columns, rows)


def _spell(document: dict[str, Any]) -> dict[str, Any]:
    return {
        "account": document["account"]["id"],
        "from": document["from"],
        "to": document["to"],
    }


def _known(api: Any, path: str) -> tuple[dict[str, Any], dict[str, str]]:  # noqa: ANN401 - the API client of a lazy import
    from meterstream_services.client import ApiRefused  # noqa: PLC0415 - loaded by its command

    try:
        response = api.send("GET", path)
    except ApiRefused as problem:
        if problem.status != 404:
            raise
        return {}, {"if-none-match": "*"}
    return response.json(), {"if-match": response.headers["etag"]}


def _labels(known: dict[str, str], options: list[str]) -> dict[str, str]:
    labels = dict(known)
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or not name:
            raise CommandError(f"--label {option}: write NAME=VALUE", status=WRONG_ARGUMENTS)
        labels.pop(name, None)
        if value:
            labels[name] = value
    return labels


def _print(accounts: list[dict[str, Any]], output_format: Format) -> None:
    rows = [
        [
            " ".join(f"{name}={value}" for name, value in account["labels"].items())
            if column == "labels"
            else account[column]
            for column in _COLUMNS
        ]
        for account in accounts
    ]
    if output_format is Format.CSV:
        output.print_csv(_COLUMNS, rows)
    elif rows:
        output.print_table(_COLUMNS, rows, numbers=["billing_anchor"])
    else:
        print("no accounts")
