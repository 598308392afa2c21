"""`meterstream periods`, `adjustments`, and what only some meters have in `usage`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from meterstream_services.cli.main import main
from tests.unit.services.api_stub import Stub, running_stub

if TYPE_CHECKING:
    from collections.abc import Iterator

SPAN = ["--from", "2026-01-01", "--to", "2026-02-01"]
USAGE = {"meter": "m", "unit": "token", "every": "total", "zone": "UTC"}
ROW: dict[str, Any] = {
    "from": "2026-01-01T00:00:00+00:00",
    "to": "2026-02-01T00:00:00+00:00",
    "tenant": "acme",
    "account": None,
    "group": {},
    "value": "1800.5",
    "events": 3,
    "closing": "1800.5",
    "adjustment": "0",
    "status": "open",
}


@pytest.fixture
def api() -> Iterator[Stub]:
    """An API that answers what a test says."""
    with running_stub() as stub:
        yield stub


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("METERSTREAM_URL", "METERSTREAM_DATA", "METERSTREAM_BOOTSTRAP_SERVERS"):
        monkeypatch.delenv(name, raising=False)


PERIOD = {
    "from": "2026-01-01T00:00:00+00:00",
    "to": "2026-02-01T00:00:00+00:00",
    "tenant": "=acme",
    "account": None,
    "group": {"model": "small"},
    "status": "final",
    "final_at": "2026-02-02T00:00:00+00:00",
    "closing": "1234",
    "adjustments": "-4",
    "value": "1230",
    "events": 3,
}
ADJUSTMENT = {
    "from": "2026-01-01T00:00:00+00:00",
    "to": "2026-02-01T00:00:00+00:00",
    "tenant": "acme",
    "account": None,
    "group": {"model": "small"},
    "arrived_from": "2026-02-03T00:00:00+00:00",
    "arrived_until": "2026-02-03T00:15:00+00:00",
    "amount": "-4000",
    "events": 1,
}


@pytest.mark.parametrize(
    ("command", "row", "csv", "cell"),
    [
        (
            "periods",
            PERIOD,
            (
                "2026-01-01T00:00:00+00:00,2026-02-01T00:00:00+00:00,'=acme,,small,final,"
                "2026-02-02T00:00:00+00:00,1234,-4,1230,3"
            ),
            "1,234",
        ),
        (
            "adjustments",
            ADJUSTMENT,
            (
                "2026-01-01T00:00:00+00:00,2026-02-01T00:00:00+00:00,acme,,small,"
                "2026-02-03T00:00:00+00:00,2026-02-03T00:15:00+00:00,-4000,1"
            ),
            "-4,000",
        ),
    ],
)
def test_periods_and_adjustments(  # noqa: PLR0917 - one case a command
    api: Stub,
    capsys: pytest.CaptureFixture[str],
    command: str,
    row: dict[str, Any],
    csv: str,
    cell: str,
) -> None:
    """What closed and what came afterwards: asked as told, in three forms."""
    answer = USAGE | {"rows": [row]}
    api.answer(f"/v1/{command}", answer)
    options = ["--every", "billing", "--account", "a", "--by", "model", "--where", "env!=test"]
    arguments = [command, "--url", api.url, "--meter", "m", *SPAN, *options]

    for form in ("csv", "table", "json"):
        assert main([*arguments, "--format", form]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == csv
    assert any(cell in line for line in lines)
    assert json.loads(lines[-1]) == answer
    assert sorted(api.asked[0].parameters) == [
        ("account", "a"),
        ("by", "model"),
        ("every", "billing"),
        ("from", "2026-01-01"),
        ("meter", "m"),
        ("to", "2026-02-01"),
        ("where", "env!=test"),
    ]


def test_what_only_some_meters_have_is_shown(api: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    """Means, running seconds and peaks are columns where the answer has them."""
    row = ROW | {"running": "1800.5", "peak": 2, "peak_at": "2026-01-03T10:00:00+00:00"}
    api.answer("/v1/usage", USAGE | {"rows": [row]})
    arguments = ["usage", "--url", api.url, "--meter", "m", *SPAN, "--peak"]

    assert main([*arguments, "--format", "csv"]) == 0
    assert main(arguments) == 0

    header, line, *table = capsys.readouterr().out.splitlines()
    assert header.endswith(",status,running,peak,peak_at")
    assert line.endswith(",open,1800.5,2,2026-01-03T10:00:00+00:00")
    assert any("1,800.5" in shown for shown in table)
    assert ("peak", "true") in api.asked[0].parameters
