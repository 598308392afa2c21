"""`meterstream demo`: the whole of it on one machine, and the books afterwards."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meterstream_services.cli import output

if TYPE_CHECKING:
    from decimal import Decimal

    from meterstream_services.demo.running import DemoResult


def demo(
    *,
    data: Annotated[
        Path | None, typer.Option("--data", help="Directory to keep; default: one that is removed.")
    ] = None,
    http: Annotated[str, typer.Option("--http", help="HOST:PORT of the API.")] = "127.0.0.1:0",
    seed: Annotated[
        int, typer.Option(help="What is drawn from it is the same each time.")
    ] = 20260101,
    scale: Annotated[int, typer.Option(min=1, max=1000, help="So many times the events.")] = 1,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave everything running until Ctrl-C.")
    ] = False,
) -> None:
    """Run a small fleet of services, kill a worker, and compare sent with counted."""
    from meterstream_services.demo.running import Demo, DemoSettings  # noqa: PLC0415 - loaded by its command

    directory = data.absolute() if data else Path(tempfile.mkdtemp(prefix="meterstream-demo-"))
    settings = DemoSettings(directory, http=http, seed=seed, scale=scale)
    is_good = False
    try:
        with Demo(settings, say=_say) as running:
            result = running.run()
            is_good = not result.faults
            _print(result, directory, keep=keep)
            if keep and is_good:
                _say("everything stays running; Ctrl-C stops it")
                running.wait()
    finally:
        if data is None and is_good:
            shutil.rmtree(directory, ignore_errors=True)
        elif data is None:
            _say(f"data and logs are left in {directory}")
    raise typer.Exit(0 if is_good else 1)


def _say(sentence: str) -> None:
    print(f"demo: {sentence}", flush=True)


def _print(result: DemoResult, directory: Path, *, keep: bool) -> None:
    from meterstream_services.demo.running import tenant_lines  # noqa: PLC0415 - loaded by its command

    rows = [
        [tenant, meter, _figure(sent), _figure(counted),
         "equal" if sent == counted else "DIFFERENT"]
        for tenant, meter, sent, counted in tenant_lines(result)
    ]  # fmt: skip
    columns = ["tenant", "meter", "sent", "counted", ""]
    output.print_table(columns, rows, numbers=["sent", "counted"])
    print(
        f"{result.calls:,} events sent, {result.repeated:,} of them repeats; "
        f"{result.duplicates:,} duplicates found. Worker {result.killed} was killed by SIGKILL and "
        f"{result.restarted} went on in its place."
    )
    for fault in result.faults:
        print(f"DIFFERENT: {fault}")
    if result.faults:
        return
    print("Every figure is equal.")
    _print_where(result, directory, keep=keep)


def _figure(amount: Decimal) -> str:
    text = f"{amount:f}"
    return output.grouped(text.rstrip("0").rstrip(".") if "." in text else text)


def _print_where(result: DemoResult, directory: Path, *, keep: bool) -> None:
    url, where = result.connection.url, f"--data {directory}"
    if not keep:
        print("\nWhere to look, when `meterstream demo --keep` leaves everything running:")
    else:
        print("\nWhere to look:")
    print(
        f"  {url}/docs\n"
        f"  {url}/v1/status\n"
        f"  meterstream status {where}\n"
        f"  meterstream usage {where} --meter llm.tokens --by model --every 15m --plot \\\n"
        f"      --from {result.asked_from} --to {result.asked_to}\n"
        f"  meterstream sessions {where} --tenant acme\n"
        f"  meterstream deadletters list {where}"
    )
