"""What every keyring does, in memory, in a file and in PostgreSQL."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from meterstream_services.keys.kept import TABLES, KeptKeyring, open_keyring
from meterstream_services.keys.memory import MemoryKeyring
from meterstream_services.keys.model import InvalidKey, Key, KeyState
from meterstream_services.keys.port import (
    DeadKey,
    KeysUnavailable,
    TooManyKeys,
    UnknownKey,
)
from meterstream_services.keys.principal import Rate, Scope
from meterstream_services.keys.text import hash_of, new_key
from meterstream_services.sql.opening import open_database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from meterstream_aggregator.store.address import StoreAddress
    from meterstream_services.keys.port import Keyring

DAY = 86_400_000_000
NOW = 1_800_000_000_000_000
MOST = 5


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def open_one(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Keyring]]:
    """Opens the same keyring anew, in each implementation; it takes five keys."""
    memory = MemoryKeyring(keys_max=MOST)
    opened: list[Keyring] = []
    address: StoreAddress = tmp_path / "keys.sqlite3"
    if request.param == "postgres":
        address = request.getfixturevalue("postgres_address")

    def one() -> Keyring:
        found: Keyring = memory
        if request.param != "memory":
            found = KeptKeyring(open_database(address, TABLES), keys_max=MOST)
        opened.append(found)
        return found

    yield one
    for each in opened:
        each.close()


@pytest.fixture
def keyring(open_one: Callable[[], Keyring]) -> Keyring:
    """An empty keyring."""
    return open_one()


def made(**facts: object) -> Key:
    """A key for acme, made now."""
    text = new_key()
    usual: dict[str, object] = {
        "scopes": frozenset({Scope.INGEST}),
        "tenants": frozenset({"acme"}),
        "created": NOW,
    }
    return Key(id=text.id, hash=hash_of(text.text), **(usual | facts))  # type: ignore[arg-type]  # a test's facts


def test_nothing_was_made(keyring: Keyring) -> None:
    """Before the first key the generation is 0 and there is no secret."""
    told = keyring.told()

    assert (told.generation, list(told.changed), told.secret) == (0, [], b"")


def test_a_key_is_kept_whole(keyring: Keyring, open_one: Callable[[], Keyring]) -> None:
    """Everything about a key comes back, whatever characters its tenants have."""
    key = made(
        scopes=frozenset({Scope.READ, Scope.INGEST}),
        tenants=frozenset({"tü%?", 'a"b,c', " "}),
        label="Łódź %s ?",
        expires=NOW + DAY,
        rate=Rate(5, 7),
    )

    keyring.add(key)

    told = open_one().told()
    assert list(told.changed) == [key]
    assert told.generation == 1
    assert len(told.secret) == 32


def test_the_secret_stays(keyring: Keyring) -> None:
    """What signs customer ids is made with the first key and never changes."""
    keyring.add(made())
    first = keyring.told().secret
    keyring.add(made())

    assert keyring.told().secret == first


def test_only_what_changed(keyring: Keyring) -> None:
    """Asked after a generation, only keys that changed since are told."""
    old, new = made(), made()
    keyring.add(old)
    before = keyring.told().generation
    keyring.add(new)

    assert list(keyring.told(before).changed) == [new]
    assert list(keyring.told(keyring.told().generation).changed) == []
    keyring.revoke(old.id, NOW + 1)
    assert [key.id for key in keyring.told(before + 1).changed] == [old.id]


def test_revoking_is_for_good(keyring: Keyring) -> None:
    """A revoked key keeps the time at which it was revoked first."""
    key = made()
    keyring.add(key)

    assert keyring.revoke(key.id, NOW + 5).revoked == NOW + 5
    assert keyring.revoke(key.id, NOW + 9).revoked == NOW + 5
    assert keyring.told().changed[0].state(NOW + 6) is KeyState.REVOKED


def test_rotation(keyring: Keyring) -> None:
    """The successor allows the same; the old one ends with the overlap and names it."""
    old = made(label="ci", rate=Rate(1, 2), expires=NOW + 90 * DAY)
    keyring.add(old)
    text = new_key()
    successor = Key(text.id, hash_of(text.text), frozenset(), None, NOW + 10 * DAY)

    new = keyring.rotate(old.id, successor, overlap=DAY)

    assert (new.scopes, new.tenants, new.label, new.rate) == (
        old.scopes,
        old.tenants,
        old.label,
        old.rate,
    )
    assert new.expires == NOW + 100 * DAY
    kept = {key.id: key for key in keyring.told().changed}
    assert kept[new.id] == new
    assert (kept[old.id].expires, kept[old.id].replaced_by) == (NOW + 11 * DAY, new.id)


def test_an_overlap_lengthens_nothing(keyring: Keyring) -> None:
    """A key that ends before the overlap would ends when it had to."""
    old = made(expires=NOW + DAY)
    keyring.add(old)

    keyring.rotate(old.id, made(created=NOW + 1), overlap=9 * DAY)

    kept = {key.id: key for key in keyring.told().changed}
    assert kept[old.id].expires == NOW + DAY


@pytest.mark.parametrize("ended", ["expired", "revoked", "replaced"])
def test_what_ended_is_not_rotated(keyring: Keyring, ended: str) -> None:
    """A key that ended, or has a successor, gets none; nothing is made."""
    old = made(expires=NOW + DAY)
    keyring.add(old)
    now = NOW + 1
    match ended:
        case "expired":
            now = NOW + DAY
        case "revoked":
            keyring.revoke(old.id, NOW + 1)
        case _:
            keyring.rotate(old.id, made(created=NOW + 1), overlap=DAY)
    before = keyring.told()

    with pytest.raises(DeadKey):
        keyring.rotate(old.id, made(created=now), overlap=DAY)

    assert keyring.told() == before


def test_there_is_no_such_key(keyring: Keyring) -> None:
    """An id that no key has is said, whatever is in it."""
    for name in ("", "nobody00", "\0", "x" * 10_000):
        with pytest.raises(UnknownKey):
            keyring.revoke(name, NOW)
        with pytest.raises(UnknownKey):
            keyring.rotate(name, made(), overlap=0)


def test_as_many_as_there_may_be(keyring: Keyring) -> None:
    """Beyond the bound no key is made until one has ended."""
    keys = [made() for _ in range(MOST)]
    for key in keys:
        keyring.add(key)

    with pytest.raises(TooManyKeys):
        keyring.add(made())
    with pytest.raises(TooManyKeys):
        keyring.rotate(keys[0].id, made(), overlap=0)

    keyring.revoke(keys[0].id, NOW)
    keyring.add(made())


@pytest.mark.parametrize(
    "facts",
    [
        {"scopes": frozenset()},
        {"tenants": frozenset()},
        {"tenants": frozenset(map(str, range(1001)))},
        {"tenants": frozenset({""})},
        {"tenants": frozenset({"a\0b"})},
        {"tenants": frozenset({"ü" * 65})},
        {"tenants": frozenset({"\ud800"})},
        {"scopes": frozenset({Scope.ADMIN})},
        {"label": "x" * 201},
        {"label": "a\nb"},
        {"expires": NOW},
        {"rate": Rate(0, None)},
        {"rate": Rate(None, 10**12)},
    ],
)
def test_keys_that_must_not_be(keyring: Keyring, facts: dict[str, object]) -> None:
    """A key that makes no sense is refused in words, and nothing is kept."""
    with pytest.raises(InvalidKey):
        keyring.add(made(**facts))

    assert keyring.told().generation == 0


def test_writers_take_turns(open_one: Callable[[], Keyring]) -> None:
    """Of several who make keys at once, none gets past the bound, and no generation is skipped."""
    rings = [open_one() for _ in range(4)]
    refused: list[int] = []

    def add(ring: Keyring) -> None:
        for _ in range(2):
            try:
                ring.add(made())
            except TooManyKeys:
                refused.append(1)

    threads = [threading.Thread(target=add, args=(ring,)) for ring in rings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    told = rings[0].told()
    assert (len(told.changed), told.generation, len(refused)) == (MOST, MOST, 3)


def test_a_file_is_for_its_owner(tmp_path: Path) -> None:
    """A file of keys is readable by nobody else."""
    path = tmp_path / "keys.sqlite3"
    ring = open_keyring(path)
    assert not path.exists()

    ring.add(made())

    assert [each.stat().st_mode & 0o077 for each in tmp_path.iterdir()] == [
        0 for _ in tmp_path.iterdir()
    ]
    ring.close()


def test_what_is_no_keyring(tmp_path: Path) -> None:
    """A directory that is not there, or a file of something else, is unavailable, not a crash."""
    other = tmp_path / "other"
    other.write_text("not a database, but long enough to be read as the head of one" * 20)

    for path in (tmp_path / "none" / "keys", other):
        ring = open_keyring(path)
        with pytest.raises(KeysUnavailable):
            ring.told()
        with suppress(KeysUnavailable):
            ring.close()
