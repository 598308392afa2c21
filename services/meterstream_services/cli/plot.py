"""Usage as bars in the terminal, one block of them per tenant and group. Exact to an eighth cell.

Bars are scaled with integers on the exact figures; no figure passes through a float on its way.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from meterstream_services.cli.output import grouped, shown

SERIES_MAX: Final = 12
"""Blocks that are drawn: those with the greatest sums. The others are named by number."""
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
_WIDTH_MIN: Final = 10


def print_plot(document: dict[str, Any]) -> None:
    """Draw the answer of ``/v1/usage``."""
    # Imported here: only a plot needs it.
    from rich.console import Console  # noqa: PLC0415 - loaded by its command
    from rich.text import Text  # noqa: PLC0415 - loaded by its command

    console = Console()
    for line in plot_lines(document, width=console.width):
        console.print(Text(line), overflow="crop", no_wrap=True)


def plot_lines(document: dict[str, Any], *, width: int) -> list[str]:
    """The lines of the plot, at most ``width`` characters each where the labels allow it."""
    series = _series(document["rows"])
    ranked = sorted(series, key=lambda name: (-sum(map(_amount, series[name])), name))
    unit = f" ({document['unit']})" if document["unit"] else ""
    lines = [f"{shown(document['meter'])}{shown(unit)}, times in {document['zone']}"]
    if document["every"] == "total":
        rows = [(shown(name), series[name][0]) for name in ranked[: SERIES_MAX * 2]]
        lines += bars([(label, row["value"]) for label, row in rows], width=width)
        hidden = len(ranked) - len(rows)
    else:
        most = max((_amount(row) for rows in series.values() for row in rows), default=Decimal(0))
        for name in ranked[:SERIES_MAX]:
            labelled = [(_moment(row["from"]), row["value"]) for row in series[name]]
            lines += ["", shown(name), *bars(labelled, width=width, most=most)]
        hidden = max(0, len(ranked) - SERIES_MAX)
    return lines + ([f"and {hidden} more with less"] if hidden > 0 else [])


def bars(
    labelled: Sequence[tuple[str, str | None]], *, width: int, most: Decimal | None = None
) -> list[str]:
    """One line per value: label, bar, figure. ``most`` is the value of a full bar."""
    values = [Decimal(value or 0) for _, value in labelled]
    figures = [grouped(value) if value is not None else "" for _, value in labelled]
    label_width = max((len(label) for label, _ in labelled), default=0)
    figure_width = max((len(figure) for figure in figures), default=0)
    room = max(_WIDTH_MIN, width - label_width - figure_width - 4)
    scale = most if most is not None else max(values, default=Decimal(0))
    return [
        f"  {label:<{label_width}} {_bar(value, scale, room)} {figure:>{figure_width}}"
        for (label, _), value, figure in zip(labelled, values, figures, strict=True)
    ]


def _bar(value: Decimal, most: Decimal, room: int) -> str:
    if most <= 0 or value <= 0:
        return " " * room
    eighths = int(value * room * 8 / most)
    whole, rest = divmod(max(1, min(eighths, room * 8)), 8)
    return (_EIGHTHS[8] * whole + (_EIGHTHS[rest] if rest else "")).ljust(room)


def _series(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    series: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        group = row.get("group") or {}
        names = [row["tenant"]] if row.get("tenant") is not None else []
        names += [f"{name}={value}" for name, value in group.items()]
        series.setdefault(" ".join(names) or "all tenants", []).append(row)
    return series


def _moment(text: str) -> str:
    """A time without the parts that are zero for every period of a day or longer."""
    return text[:10] if text[11:19] == "00:00:00" else text[:16].replace("T", " ")


def _amount(row: dict[str, Any]) -> Decimal:
    return Decimal(row["value"] or 0)
