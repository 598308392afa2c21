"""Where a store is, as text: files, databases, and what cannot be either."""

from __future__ import annotations

from pathlib import Path

import pytest

from meterstream_aggregator.store.address import PostgresAddress, parse_address


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u:p%40@h:5/d?schema=x",
        "postgres://h/d?sslmode=require&schema=x",
        "postgresql://h1:1,h2:2/d?target_session_attrs=any&schema=a_1",
    ],
)
def test_a_url_is_whole_again(text: str) -> None:
    """What is taken apart comes together again, schema and password included."""
    address = parse_address(text)

    assert isinstance(address, PostgresAddress)
    assert "schema" not in address.url
    assert parse_address(address.full()) == address
    assert address.full() == text


def test_a_schema_need_not_be_named() -> None:
    """The default is one fixed name; a path is a path, with any characters."""
    assert parse_address("postgresql://h/d") == PostgresAddress("postgresql://h/d", "meterstream")
    assert parse_address("/data/a:b?c.sqlite3") == Path("/data/a:b?c.sqlite3")


@pytest.mark.parametrize("text", ["mysql://h/d", "postgresql://h/d?schema=A", "sqlite:///x"])
def test_what_is_neither_is_refused(text: str) -> None:
    """Another database, or a schema that would need quoting everywhere."""
    with pytest.raises(ValueError, match=r"a store is a file|schema="):
        parse_address(text)


@pytest.mark.parametrize("schema", ["pg", "pg_usage"])
def test_names_that_postgresql_keeps_are_refused(schema: str) -> None:
    """A schema, or the roles named after it, that could not be made; its neighbours can."""
    with pytest.raises(ValueError, match="neither pg nor pg_ something"):
        parse_address(f"postgresql://h/d?schema={schema}")
    assert parse_address("postgresql://h/d?schema=pgs") == PostgresAddress(
        "postgresql://h/d", "pgs"
    )


@pytest.mark.parametrize("mark", ["/", "?", "#", "[", "\u2100"])
def test_a_password_that_ends_early_is_shown_to_nobody(mark: str) -> None:
    """Written as it is, such a mark makes its beginning a host, which messages would name."""
    with pytest.raises(ValueError, match="%2F") as raised:
        parse_address(f"postgresql://u:sec{mark}ret@h/d")
    assert "sec" not in f"{raised.value}{raised.value.__cause__}"
    address = parse_address("postgresql://u:sec%2Fret@h/d?application_name=a%40b")
    assert str(address) == "postgresql://u@h/d?schema=meterstream"
