"""What goes wrong with PostgreSQL is told in one sentence, with what to do, and no password."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from meterstream_aggregator.errors import StoreError, StoreMismatch, StoreUnavailable
from meterstream_aggregator.store.address import PostgresAddress, parse_address
from meterstream_aggregator.store.opening import open_store
from meterstream_aggregator.store.postgres.connection import (
    PASSWORD_VARIABLE,
    Connection,
    connect,
)
from meterstream_aggregator.store.postgres.migrations import migrate
from tests.contract.stores import BINDING, CATALOGUE, added, commit, row
from tests.databases import embedded

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "se%2Fcret-1"


def _with(address: PostgresAddress, **parts: str) -> PostgresAddress:
    known = urlsplit(address.url)
    return address._replace(url=known._replace(**parts).geturl())


def _login(address: PostgresAddress, login: str) -> PostgresAddress:
    place = urlsplit(address.url).netloc.rpartition("@")[2]
    return _with(address, netloc=f"{login}@{place}")


def _told(address: PostgresAddress, kind: type[StoreError], *words: str) -> None:
    with pytest.raises(kind) as caught:
        open_store(address)
    sentence = str(caught.value)
    assert all(word in sentence for word in words), sentence
    assert "\n" not in sentence
    assert not {SECRET, "se/cret-1"} & set(sentence.replace("'", " ").split())
    assert "cret-1" not in sentence


def test_who_cannot_get_in_is_told_why(postgres_address: PostgresAddress) -> None:
    """A wrong password, no such user or database: a person mends it. Nobody there: one waits."""
    _told(_login(postgres_address, f"postgres:{SECRET}"), StoreMismatch, PASSWORD_VARIABLE)
    _told(_login(postgres_address, f"nobody:{SECRET}"), StoreMismatch, "password is wrong")
    _told(_with(postgres_address, path="/none"), StoreMismatch, "CREATE DATABASE")
    gone = _with(postgres_address, netloc=f"u:{SECRET}@127.0.0.1:1")
    _told(gone, StoreUnavailable, "cannot be reached", "Connection refused")
    odd = _with(postgres_address, netloc=f"u:{SECRET}@127.0.0.1:1", query="wrong=1")
    _told(odd, StoreMismatch, "no address", "wrong")


def test_a_password_is_never_shown() -> None:
    """Neither by the address as text nor by its repr."""
    address = parse_address(f"postgresql://u:{SECRET}@h:5/d?sslmode=require&schema=x")

    assert str(address) == "postgresql://u@h:5/d?schema=x"
    assert "cret" not in repr(address)


def test_the_password_comes_from_a_variable_or_a_file(
    postgres_address: PostgresAddress, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One in the URL stands; without it the variable is taken, then the file it names."""
    password = urlsplit(postgres_address.url).password
    assert password is not None
    bare = _login(postgres_address, "postgres")
    monkeypatch.setenv(PASSWORD_VARIABLE, password)
    open_store(bare).close()

    monkeypatch.delenv(PASSWORD_VARIABLE)
    file = tmp_path / "password"
    file.write_text(f"{password}\n", "utf-8")
    monkeypatch.setenv(f"{PASSWORD_VARIABLE}_FILE", str(file))
    open_store(bare).close()
    file.unlink()
    with pytest.raises(StoreMismatch, match=f"{PASSWORD_VARIABLE}_FILE: .* cannot be read"):
        open_store(bare)


def test_a_database_that_takes_no_writes_is_waited_for(postgres_address: PostgresAddress) -> None:
    """As during a failover: nothing is written, and the next try after it works."""
    with closing(open_store(postgres_address)) as store:
        store.bind(BINDING, CATALOGUE)
        claim = store.claim(0, "w")
        with store._link.session() as own:  # type: ignore[attr-defined] # that of PostgreSQL
            own.execute("SET default_transaction_read_only = on")
        with pytest.raises(StoreUnavailable, match="takes no writes"):
            commit(store, claim, added({row(): (1, 1)}))
        with store._link.session() as own:  # type: ignore[attr-defined] # that of PostgreSQL
            own.execute("SET default_transaction_read_only = off")

        commit(store, claim, added({row(): (1, 1)}))


def test_a_lock_that_is_not_free_is_given_up(postgres_address: PostgresAddress) -> None:
    """Whoever waits too long for another's row says so, and has written nothing."""
    patient = _with(postgres_address, query="options=-c%20lock_timeout%3D100ms")
    with closing(open_store(patient)) as store, connect(postgres_address, "migrate") as rogue:
        store.bind(BINDING, CATALOGUE)
        claim = store.claim(0, "w")
        with rogue.transaction():
            rogue.execute("SELECT 1 FROM position FOR UPDATE")
            with pytest.raises(StoreUnavailable, match="a lock was not free"):
                commit(store, claim, added({row(): (1, 1)}))

        commit(store, claim, added({row(): (1, 1)}))


def test_no_free_connection_is_waited_for() -> None:
    """A server whose connections are all taken: one sentence, and it works once there is room."""
    with embedded(max_connections="6", superuser_reserved_connections="0") as database:
        address = PostgresAddress(database.url)
        taken: list[Connection] = []

        def take_all() -> None:
            for _ in range(9):
                taken.append(connect(address, "migrate"))  # noqa: PERF401 - the last one raises

        with pytest.raises(StoreUnavailable, match="no free connection"):
            take_all()
        for each in taken:
            each.close()
        connect(address, "migrate").close()


def test_a_server_that_crashes_loses_nothing() -> None:
    """Stopped at once between two commits and started again: the position and rows are there."""
    with embedded(fsync="on") as database:
        address = PostgresAddress(database.url)
        migrate(address)
        with closing(open_store(address)) as store:
            store.bind(BINDING, CATALOGUE)
            claim = commit(store, store.claim(0, "w"), added({row(): (1, 1)}))
            database.crash()
            with pytest.raises(StoreUnavailable):
                commit(store, claim, added({row(): (1, 1)}))
            database.start()

            again = store.claim(0, "w")
            assert again.next_offset == claim.next_offset
            commit(store, again, added({row(): (1, 1)}))
