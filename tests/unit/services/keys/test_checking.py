"""Which principal a credential is, and how soon changes hold."""

from __future__ import annotations

import asyncio
import hmac
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from meterstream_services.keys import checking
from meterstream_services.keys.checking import KEPT_SECONDS, STALE_SECONDS, Refusal
from meterstream_services.keys.principal import ANYBODY, Principal, Scope
from meterstream_services.keys.text import hash_of, id_of, new_key
from tests.unit.services.keys.making import SECOND, Keyed
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meterstream_services.keys.port import Told


@pytest.fixture
def keyed() -> Iterator[Keyed]:
    """No keys yet, on this machine only."""
    made = Keyed()
    yield made
    made.keys.close()


def judged(keyed: Keyed, credential: str | None) -> Principal | Refusal:
    """As the middleware asks."""
    asyncio.run(keyed.keys.ready())
    return keyed.keys.judge(credential)


def test_anybody_before_the_first_key(keyed: Keyed) -> None:
    """Where no key was made anybody may do everything, and is known by what they present."""
    assert judged(keyed, None) is ANYBODY
    found = keyed.keys.principal("cm_live_123")

    assert found == Principal(None, frozenset(Scope), None, hash_of("cm_live_123").hex()[:16])
    assert keyed.keys.none_made


def test_nobody_where_others_reach_it() -> None:
    """Where other machines reach the service, no keys means nobody."""
    keyed = Keyed(anybody=False)

    assert judged(keyed, None) is Refusal.NONE_MADE
    assert judged(keyed, "x") is Refusal.NONE_MADE
    assert not keyed.keys.none_made
    keyed.keys.close()


def test_a_key_is_its_principal(keyed: Keyed) -> None:
    """A key has its scopes, its tenants, and the digest of its text."""
    text = keyed.make("ingest", tenants=["acme"])

    found = judged(keyed, text)

    assert found == Principal(
        id_of(text),
        frozenset({Scope.INGEST}),
        frozenset({"acme"}),
        hash_of(text).hex()[:16],
    )


def test_wrong_credentials(keyed: Keyed) -> None:
    """One wrong letter, another's id, a long text, or any other text are nobody."""
    text = keyed.make("admin")
    other = new_key().text
    wrong = text[:-1] + ("A" if text[-1] != "A" else "B")
    mixed = text[:17] + other[17:]

    for credential in (wrong, mixed, other, text + "x", text[:-1], "x", "x" * 100_000, "\ud800"):
        assert judged(keyed, credential) is Refusal.UNKNOWN, credential[:80]
    assert judged(keyed, None) is Refusal.MISSING
    assert judged(keyed, "") is Refusal.MISSING


class _Digest(bytes):
    """The hash of a credential, which may be compared in one way alone."""

    def __eq__(self, other: object) -> bool:
        pytest.fail(f"compared with {other!r}, and the time of that tells how far they agree")

    __hash__ = bytes.__hash__


def test_every_credential_is_compared_in_constant_time(
    keyed: Keyed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known and unknown ids alike: one comparison of whole hashes, by `hmac.compare_digest`."""
    text, other = keyed.make("ingest"), new_key().text
    asyncio.run(keyed.keys.ready())
    compared: list[tuple[bytes, bytes]] = []

    def compare_digest(one: bytes, two: bytes) -> bool:
        compared.append((bytes(one), bytes(two)))
        return hmac.compare_digest(bytes(one), bytes(two))

    monkeypatch.setattr(checking, "hmac", SimpleNamespace(compare_digest=compare_digest))
    monkeypatch.setattr(checking, "hash_of", lambda told: _Digest(hash_of(told)))
    presented = [text, f"{text[:-1]}{'B' if text[-1] == 'A' else 'A'}", other, "no key at all"]

    found = [isinstance(keyed.keys.judge(each), Principal) for each in presented]

    assert found == [True, False, False, False]
    assert [two for _, two in compared] == [hash_of(each) for each in presented]
    kept, nobodys = hash_of(text), bytes(len(hash_of(text)))
    assert [one for one, _ in compared] == [kept, kept, nobodys, nobodys]


def test_changes_hold_within_two_seconds(keyed: Keyed) -> None:
    """The first key, a new key and a revocation count within two seconds in every process."""
    assert judged(keyed, None) is ANYBODY

    first = keyed.make("read")
    keyed.clock.seconds += 2
    assert judged(keyed, None) is Refusal.MISSING
    assert isinstance(judged(keyed, first), Principal)

    second = keyed.make("read")
    keyed.clock.seconds += 2
    assert isinstance(judged(keyed, second), Principal)

    keyed.ring.revoke(id_of(first) or "", keyed.clock.micros())
    keyed.clock.seconds += 2
    assert judged(keyed, first) is Refusal.REVOKED
    assert isinstance(judged(keyed, second), Principal)


def test_expiry_is_exact(keyed: Keyed) -> None:
    """A key ends at its time, also while the database is away."""
    text = keyed.make("read", expires=keyed.clock.micros() + 10 * SECOND)
    assert isinstance(judged(keyed, text), Principal)
    keyed.ring.is_away = True
    keyed.clock.seconds += 9.99
    assert isinstance(judged(keyed, text), Principal)

    keyed.clock.seconds += 0.01

    assert judged(keyed, text) is Refusal.EXPIRED


def test_requests_do_not_ask_the_database(keyed: Keyed) -> None:
    """A thousand requests with made-up keys within a second cost no question at all."""
    keyed.make("read")
    judged(keyed, None)
    before = keyed.ring.asked

    for _ in range(1000):
        assert judged(keyed, new_key().text) is Refusal.UNKNOWN

    assert keyed.ring.asked == before


def test_the_database_is_away(keyed: Keyed) -> None:
    """Known keys go on for five minutes; others are told to come again; then everybody is."""
    known = keyed.make("read")
    assert isinstance(judged(keyed, known), Principal)
    keyed.ring.is_away = True

    keyed.clock.seconds += STALE_SECONDS
    assert isinstance(judged(keyed, known), Principal)
    assert judged(keyed, new_key().text) is Refusal.AWAY
    keyed.clock.seconds += KEPT_SECONDS - STALE_SECONDS
    assert isinstance(judged(keyed, known), Principal)
    keyed.clock.seconds += 1
    assert judged(keyed, known) is Refusal.AWAY
    assert judged(keyed, None) is Refusal.AWAY

    keyed.ring.is_away = False
    keyed.clock.seconds += 2
    # Nobody waits for a look after one that failed, so the first may still hear of the failure.
    eventually(lambda: isinstance(judged(keyed, known), Principal))


def test_away_from_the_start(keyed: Keyed) -> None:
    """Nobody is let in before the keys were read once, not even where there may be none."""
    keyed.ring.is_away = True

    assert judged(keyed, None) is Refusal.AWAY
    assert not keyed.keys.none_made


def test_a_failed_look_is_not_repeated_at_once(keyed: Keyed) -> None:
    """A database that is away is asked once a second, however many requests come."""
    keyed.ring.is_away = True
    for _ in range(100):
        judged(keyed, "x")

    assert keyed.ring.asked == 1


def test_a_slow_database_holds_nobody_up_for_long(
    keyed: Keyed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a look hangs, requests that come later go on by what is known."""
    known = keyed.make("read")
    judged(keyed, known)
    go_on = threading.Event()
    told = keyed.ring.told

    def slow(after: int = 0) -> Told:
        go_on.wait(30)
        return told(after)

    monkeypatch.setattr(keyed.ring, "told", slow)
    keyed.clock.seconds += 1.2
    assert isinstance(judged(keyed, known), Principal)  # The look begins, and nobody waits.
    keyed.clock.seconds += 2.1

    assert isinstance(judged(keyed, known), Principal)  # It hangs for longer than anybody waits.
    go_on.set()


def test_a_keyring_that_vanished_opens_nothing(keyed: Keyed) -> None:
    """Once keys were known, an empty keyring in their place lets nobody in."""
    text = keyed.make("read")
    judged(keyed, text)
    keyed.ring.__init__()  # type: ignore[misc]  # the same file, made anew

    keyed.clock.seconds += 2

    assert judged(keyed, None) is Refusal.NONE_MADE
    assert judged(keyed, text) is Refusal.NONE_MADE


def test_another_keyring_in_its_place(keyed: Keyed) -> None:
    """A keyring that was restored from before counts as it is."""
    texts = [keyed.make("read") for _ in range(3)]
    judged(keyed, texts[0])
    keyed.ring.__init__()  # type: ignore[misc]  # the same file, from a backup
    restored = keyed.make("read")

    keyed.clock.seconds += 2

    assert isinstance(judged(keyed, restored), Principal)
    assert [judged(keyed, text) for text in texts] == [Refusal.UNKNOWN] * 3


def test_another_keyring_with_more_keys_in_its_place(keyed: Keyed) -> None:
    """Keys of a database that was replaced are nobody's, however many changes the new one has."""
    old = keyed.make("read")
    judged(keyed, old)
    keyed.ring.__init__()  # type: ignore[misc]  # another file under the same name
    new = [keyed.make("read") for _ in range(3)]

    keyed.clock.seconds += 2

    assert [isinstance(judged(keyed, text), Principal) for text in new] == [True] * 3
    assert judged(keyed, old) is Refusal.UNKNOWN


def test_a_fault_opens_nothing(keyed: Keyed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in reading is as if the database were away."""
    monkeypatch.setattr(keyed.ring, "told", lambda _after=0: 1 / 0)

    assert judged(keyed, "x") is Refusal.AWAY


def test_signed_ids(keyed: Keyed) -> None:
    """A customer id speaks for its one tenant, to ingest, for as long as its key lives."""
    text = keyed.make("ingest", "read", tenants=["acme", "bolt"])
    principal = judged(keyed, text)
    assert isinstance(principal, Principal)

    customer = keyed.keys.sign("acme", principal)
    found = keyed.keys.signed(customer)

    assert found is not None
    assert (found.key, found.scopes, found.tenants) == (
        principal.key,
        frozenset({Scope.INGEST}),
        frozenset({"acme"}),
    )
    assert keyed.keys.signed("acme") is None
    assert keyed.keys.signed(keyed.keys.sign("foreign", principal)) is None
    keyed.ring.revoke(id_of(text) or "", keyed.clock.micros())
    keyed.clock.seconds += 2
    judged(keyed, None)
    assert keyed.keys.signed(customer) is None


def test_plain_ids_without_keys(keyed: Keyed) -> None:
    """Where no keys were made a customer id is the tenant itself, and nothing is signed."""
    assert judged(keyed, None) is ANYBODY
    assert keyed.keys.sign("acme", ANYBODY) == "acme"
    assert keyed.keys.signed("acme") is None


def test_a_key_that_reads_signs_nothing_for_ingest(keyed: Keyed) -> None:
    """An id issued under a key without the scope ingest lets nobody send."""
    principal = judged(keyed, keyed.make("read"))
    assert isinstance(principal, Principal)

    assert keyed.keys.signed(keyed.keys.sign("acme", principal)) is None
