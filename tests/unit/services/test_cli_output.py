"""What commands print: tables, CSV, plots, and what hostile names can do there."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from meterstream_services.cli import output
from meterstream_services.cli.plot import SERIES_MAX, bars, plot_lines

HOSTILE = ["=1+1", "+x", "-x", "@x", "\tx", "plain", "[red]x[/red]", "a,b", 'a"b', "a\nb"]


def test_csv_texts_are_never_formulas(capsys: pytest.CaptureFixture[str]) -> None:
    """A text that a spreadsheet would run gets an apostrophe; numbers and other texts do not."""
    output.print_csv(["tenant", "value"], [[text, output.number("-5.25")] for text in HOSTILE])

    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert [row[0] for row in rows[1:]] == [
        "'=1+1", "'+x", "'-x", "'@x", "'\tx", "plain", "[red]x[/red]", "a,b", 'a"b', "a\nb",
    ]  # fmt: skip
    assert {row[1] for row in rows[1:]} == {"-5.25"}


def test_tables_show_names_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Markup stays text and control characters become escapes."""
    output.print_table(["tenant"], [["[red]x[/red]"], ["\x1b[2J"], ["a\nb"], [None], [True]])

    printed = capsys.readouterr().out
    assert "[red]x[/red]" in printed
    assert "\x1b" not in printed
    assert r"\x1b[2J" in printed
    assert r"a\nb" in printed


def test_long_cells_are_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    """A table never loses characters of a cell."""
    output.print_table(["tenant"], [["x" * 500]])

    assert capsys.readouterr().out.count("x") == 500


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", "0"), ("18059974", "18,059,974"), ("-1234.5", "-1,234.5"), ("12", "12"), ("x", "x")],
)
def test_figures_are_grouped_by_three(text: str, expected: str) -> None:
    """The digits before the point get commas; the digits behind stay."""
    assert output.grouped(text) == expected


def document(every: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """An answer of the usage API."""
    return {"meter": "m", "unit": "u", "every": every, "zone": "UTC", "rows": rows}


def row(tenant: str | None, start: str, value: str | None, **group: str) -> dict[str, Any]:
    """A row of it."""
    return {"from": start, "tenant": tenant, "group": group, "value": value}


def test_bars_are_as_long_as_their_values() -> None:
    """The greatest value fills the room, half of it half the room, zero none."""
    lines = bars([("a", "10"), ("b", "5"), ("c", "0")], width=2 + 1 + 1 + 20 + 1 + 2)

    lengths = [line.count("█") for line in lines]
    assert lengths[0] == 2 * lengths[1] > 0
    assert lengths[2] == 0
    assert len(set(map(len, lines))) == 1


def test_a_value_too_small_for_a_cell_is_still_seen() -> None:
    """What is not zero has a mark."""
    assert "▏" in bars([("a", "1000000000000"), ("b", "1")], width=80)[1]


def test_bars_of_empty_and_negative_values() -> None:
    """No minimum of nothing, and no bar to the left."""
    assert bars([("a", None), ("b", "-5")], width=40)[1].endswith("-5")
    assert bars([], width=40) == []


def test_a_plot_over_time_has_a_block_per_series() -> None:
    """Tenants and groups have blocks of their own, the greatest first; a full bar is the same."""
    rows = [
        row("small", "2026-01-01T00:00:00+00:00", "1", model="x"),
        row("big", "2026-01-01T00:00:00+00:00", "100", model="x"),
        row("big", "2026-01-02T00:00:00+00:00", "50", model="x"),
    ]

    lines = plot_lines(document("1d", rows), width=60)

    assert lines[0] == "m (u), times in UTC"
    assert [line for line in lines if "model" in line] == ["big model=x", "small model=x"]
    assert [line.strip()[:10] for line in lines if "2026" in line] == [
        "2026-01-01", "2026-01-02", "2026-01-01",
    ]  # fmt: skip


def test_a_plot_of_totals_is_one_block() -> None:
    """One bar per tenant when there is one period; too many are named by their number."""
    rows = [row(f"t{n}", "2026-01-01T00:00:00+00:00", str(n)) for n in range(SERIES_MAX * 3)]

    lines = plot_lines(document("total", rows), width=60)

    assert lines[1].strip().startswith(f"t{SERIES_MAX * 3 - 1} ")
    assert lines[-1] == f"and {SERIES_MAX} more with less"
