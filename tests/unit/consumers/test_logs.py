"""What a log line says, and what it never says."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from meterstream_consumers.logs import configure, masked
from tests.unit.kept_logging import kept_logging

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _put_back() -> Iterator[None]:
    with kept_logging():
        yield


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What was logged as JSON, line by line."""
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_fact_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    """With the time in UTC, a level, the process, and fields by their names."""
    configure(as_json=True, process="worker").bind(worker="w-1").info(
        "took partition", partition=3, offset=17
    )

    [line] = lines(capsys)
    told = datetime.fromisoformat(line.pop("timestamp"))
    assert told.utcoffset() == datetime.now(UTC).utcoffset()
    assert line == {
        "level": "info",
        "event": "took partition",
        "process": "worker",
        "worker": "w-1",
        "partition": 3,
        "offset": 17,
    }


def test_tracebacks_and_libraries_fit_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """An exception is a field, and a library's warning has the same shape."""
    logger = configure(as_json=True)
    try:
        int("first\nsecond"[6:])
    except ValueError:
        logger.exception("crashed")
    logging.getLogger("some.library").warning("odd %s", "thing")
    logging.getLogger("some.library").info("not worth a line")
    logging.getLogger("meterstream.http").info("listening")

    crashed, odd, listening = lines(capsys)
    assert "\nValueError: invalid literal" in crashed["exception"]
    assert (odd["event"], odd["level"], odd["logger"]) == ("odd thing", "warning", "some.library")
    assert listening["event"] == "listening"


def test_text_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """Without JSON a line begins with its time and tells fields as name=value."""
    configure(as_json=False).warning("fenced", partition=3)

    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "fenced" in told
    assert "partition=3" in told
    assert told.startswith(str(datetime.now(UTC).year))


def _fail(secret: str) -> None:
    """Fails with a variable that nobody else may see."""
    raise ValueError(f"no such thing, {len(secret)}, for mk_live_abcd1234_0123456789")


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("name", ["meterstream.http", "some.library"])
def test_tracebacks_are_plain(capsys: pytest.CaptureFixture[str], name: str, as_json: bool) -> None:
    """A traceback shows where and what, no values of variables, and no secret in its message."""
    configure(as_json=as_json)
    try:
        _fail("hunter" + "2" * 5)
    except ValueError:
        logging.getLogger(name).exception("crashed")

    told = capsys.readouterr().err
    assert "in _fail" in told
    assert "ValueError: no such thing, 11, for mk_live_abcd1234_***" in told
    assert "hunter22222" not in told
    assert "0123456789" not in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("postgresql://meter:hunter2@db/m", "postgresql://meter:***@db/m"),
        ("postgresql://meter@db/m", "postgresql://meter@db/m"),
        ("signed with whsec_c2VjcmV0c2VjcmV0", "signed with whsec_***"),
        ("key mk_live_abcd1234_0123456789abcdef", "key mk_live_abcd1234_***"),
        ("sasl.password=hunter2, sasl.username=u", "sasl.password=***, sasl.username=u"),
        ("{'token': 'abc'}", "{'token': ***"),
        ("the password is not accepted", "the password is not accepted"),
    ],
)
def test_secrets_are_masked(text: str, told: str) -> None:
    """Whatever looks like a secret inside a sentence is not repeated."""
    assert masked(text) == told


def test_fields_named_like_secrets_are_masked(capsys: pytest.CaptureFixture[str]) -> None:
    """A field whose name says that it is secret is masked whatever it holds."""
    configure(as_json=True).info("settings", sasl_password=["a"], api_key="k", topic="t")

    [line] = lines(capsys)
    assert (line["sasl_password"], line["api_key"], line["topic"]) == ("***", "***", "t")
