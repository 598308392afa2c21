"""Directories in files that somebody else writes, behind HTTP, and behind a bound."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from meterstream_aggregator.store.address import PostgresAddress
from meterstream_services.accounts.bounded import BoundedDirectory
from meterstream_services.accounts.cached import CachedDirectory
from meterstream_services.accounts.errors import AccountsUnavailable, NotEditable
from meterstream_services.accounts.lookup import lookup_in
from meterstream_services.accounts.memory import MemoryDirectory
from meterstream_services.accounts.model import Account, Assign, SetAccount
from meterstream_services.accounts.opening import RemoteAddress, open_directory, parse_directory
from meterstream_services.accounts.remote import ANSWER_BYTES_MAX, RemoteDirectory
from meterstream_services.accounts.static import LOOK_SECONDS, StaticDirectory
from tests.waiting import eventually

if TYPE_CHECKING:
    from meterstream_services.accounts.history import History

YAML = """
- {account: a1, name: Acme, zone: Europe/Berlin, tenant: acme}
- {account: b2, tenant: acme, from: 2026-03-01, external_ids: {stripe: cus_1}}
"""
CSV = "account,tenant,from\na1,acme,\nb2,acme,2026-03-01\n"
MARCH = 1_772_323_200_000_000
HISTORY = {"acme": ((0, "a1"), (MARCH, "b2"))}


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _rows() -> list[dict[str, Any]]:
    return [
        {"account": "a1", "tenant": "acme"},
        {"account": "b2", "tenant": "acme", "from": "2026-03-01"},
    ]


@pytest.mark.parametrize(
    ("name", "content"), [("a.yaml", YAML), ("a.CSV", CSV), ("a.json", json.dumps(_rows()))]
)
def test_a_file_is_a_directory(tmp_path: Path, name: str, content: str) -> None:
    """Rows of an import in a file answer as tables do, and are changed in the file only."""
    (tmp_path / name).write_text(content)

    directory = open_directory(tmp_path / name)

    assert isinstance(directory, StaticDirectory)
    assert directory.histories(["acme", "x"]) == HISTORY
    assert [account.id for account in directory.accounts()] == ["a1", "b2"]
    assert directory.tenants_of("b2") == ["acme"]
    if name == "a.yaml":
        assert directory.account("a1") == Account("a1", "Acme", "Europe/Berlin")
        assert directory.account_of("stripe", "cus_1") == "b2"
        assert directory.external_ids("b2") == [("stripe", "cus_1")]
    with pytest.raises(NotEditable, match="change it there"):
        directory.apply([SetAccount("x")])


def test_a_file_is_read_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A new version counts; one that cannot be taken leaves the old one, and is told once."""
    path, clock = tmp_path / "a.yaml", Clock()
    path.write_text(YAML)
    directory = StaticDirectory(path, clock=clock)
    assert directory.histories(["acme"]) == HISTORY

    for broken in ("- {account: [", "- {account: a1, zone: Mars/Base}", "account: a1"):
        path.write_text(broken)
        clock.now += LOOK_SECONDS
        assert directory.histories(["acme"]) == HISTORY
        clock.now += LOOK_SECONDS
        assert directory.histories(["acme"]) == HISTORY
        assert directory.problem is not None
    path.unlink()
    clock.now += LOOK_SECONDS
    assert directory.histories(["acme"]) == HISTORY
    path.write_text("- {account: c3, tenant: acme}")
    clock.now += LOOK_SECONDS

    assert directory.histories(["acme"]) == {"acme": ((0, "c3"),)}
    assert directory.problem is None
    told = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert len(told) == 4
    assert all("the version before stays" in line for line in told)


def test_a_file_that_never_was_good_is_an_outage(tmp_path: Path) -> None:
    """Without any version that can be taken, questions fail with the reason, until there is one."""
    path, clock = tmp_path / "a.csv", Clock()
    directory = StaticDirectory(path, clock=clock)
    with pytest.raises(AccountsUnavailable, match=r"a\.csv"):
        directory.accounts()

    path.write_text(CSV)
    clock.now += LOOK_SECONDS

    assert directory.histories(["acme"]) == HISTORY


def _remote(answer: Callable[[httpx.Request], httpx.Response], **options: Any) -> RemoteDirectory:  # noqa: ANN401 - as its constructor
    def streamed(request: httpx.Request) -> httpx.Response:
        found = answer(request)
        body = httpx.ByteStream(found.content)
        return httpx.Response(found.status_code, headers=found.headers, stream=body)

    transport = httpx.MockTransport(streamed)
    return RemoteDirectory("https://accounts.example/base/", transport=transport, **options)


def test_a_service_is_a_directory() -> None:
    """The documented requests and answers make a directory; the key goes along as a bearer's."""
    asked: list[tuple[str, str, bytes, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        key = request.headers["authorization"]
        asked.append((request.method, request.url.raw_path.decode(), request.content, key))
        path = request.url.path.removeprefix("/base")
        account = {"id": "a/1", "name": "A", "labels": {"plan": "pro"}, "new_field": 7}
        answers: dict[str, object] = {
            "/v1/lookup": {
                "tenants": [
                    {
                        "tenant": "acme",
                        "history": [
                            {"account": "a1", "from": None},
                            {"account": "b2", "from": "2026-03-01T00:00:00Z"},
                        ],
                    }
                ]
            },
            "/v1/accounts/a/1": account,
            "/v1/accounts/a1/tenants": {"tenants": ["t2", "t1"]},
            "/v1/accounts": {"accounts": [account]},
            "/v1/accounts/a1/external-ids": {"external_ids": [{"system": "s", "id": "1"}]},
            "/v1/lookup/external-ids/s/1": {"account": account},
        }
        found = answers.get(path)
        return httpx.Response(404 if found is None else 200, json=found)

    directory = _remote(answer, key="k-1")
    expected = Account("a1")

    assert directory.histories(["acme", "nobody"]) == HISTORY
    assert directory.tenants_of("a1") == ["t1", "t2"]
    assert directory.tenants_of("zz") == []
    assert directory.external_ids("a1") == [("s", "1")]
    assert directory.account_of("s", "2") is None
    assert directory.account("zz") is None
    assert expected.id == "a1"
    assert asked[0] == (
        "POST",
        "/base/v1/lookup",
        b'{"tenants":["acme","nobody"]}',
        "Bearer k-1",
    )
    with pytest.raises(NotEditable):
        directory.apply([])
    directory.close()


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(500, text="oops"),
        httpx.Response(302, headers={"location": "https://elsewhere.example/"}),
        httpx.Response(401, json={}),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, text="[" * 100_000),
        httpx.Response(200, json=[1]),
        httpx.Response(200, json={}),
        httpx.Response(200, json={"tenants": [{"tenant": "other", "history": []}]}),
        httpx.Response(200, json={"tenants": [{"tenant": "acme", "history": {}}]}),
        httpx.Response(200, json={"tenants": [{"tenant": "acme", "history": [{"account": 5}]}]}),
        httpx.Response(
            200,
            json={"tenants": [{"tenant": "acme", "history": [{"account": "a", "from": "soon"}]}]},
        ),
        httpx.Response(200, content=b" " * (ANSWER_BYTES_MAX + 1)),
        httpx.Response(404),
        httpx.ConnectTimeout("late"),
    ],
)
def test_any_other_answer_is_an_outage(response: httpx.Response | Exception) -> None:
    """Redirects, pages, cut or foreign answers are outages: never a mapping, never a crash."""

    def answer(_: httpx.Request) -> httpx.Response:
        if isinstance(response, Exception):
            raise response
        return response

    with pytest.raises(AccountsUnavailable, match=r"accounts at https://accounts\.example/base"):
        _remote(answer, key="secret-key").histories(["acme"])


@pytest.mark.parametrize(
    "account",
    [{}, {"id": 5}, {"id": "a", "zone": "Mars"}, {"id": "a", "labels": 7}, [], {"id": "a\x00"}],
)
def test_accounts_of_a_service_are_checked(account: object) -> None:
    """What could not be an account here is none because a service says so."""
    with pytest.raises(AccountsUnavailable):
        _remote(lambda _: httpx.Response(200, json={"accounts": [account]})).accounts()


def test_a_key_is_not_sent_in_the_open() -> None:
    """Without TLS a key goes to this machine only, and no message has it."""
    away = RemoteDirectory("http://accounts.example", key="secret-key")
    with pytest.raises(AccountsUnavailable, match="not sent without TLS") as caught:
        away.account("a")

    assert "secret-key" not in str(caught.value)


def test_addresses_say_what_they_are() -> None:
    """Files, databases and services are told apart by their form."""
    assert parse_directory("/x/accounts.sqlite3") == Path("/x/accounts.sqlite3")
    assert isinstance(parse_directory("postgresql://h/db"), PostgresAddress)
    assert parse_directory("https://h/base/") == RemoteAddress("https://h/base")
    for wrong in ("https://user:secret@h", "https://h?x=1", "http://", "ftp://h"):
        with pytest.raises(ValueError, match="://") as caught:
            parse_directory(wrong)
        assert "secret" not in str(caught.value)
    for address in ("https://h", "postgresql://h/db"):
        opened = open_directory(parse_directory(address))
        assert isinstance(opened, CachedDirectory)
        opened.close()


class Hanging(MemoryDirectory):
    """A directory that answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.asked = 0

    def histories(self, tenants: Sequence[str]) -> dict[str, History]:
        """When told to."""
        self.asked += 1
        self.gate.wait(10)
        return super().histories(tenants)


def test_nobody_waits_longer_than_the_bound() -> None:
    """A directory that hangs costs the bound, whoever asks next as well, and heals by itself."""
    source = Hanging()
    bounded = BoundedDirectory(source, seconds=0.05, asking_max=1)
    with pytest.raises(AccountsUnavailable, match="no answer came within"):
        bounded.histories(["t"])
    with pytest.raises(AccountsUnavailable, match="earlier questions"):
        bounded.accounts()
    assert source.asked == 1

    source.gate.set()
    healed = BoundedDirectory(source, seconds=5)

    assert healed.histories(["t"]) == {}


def test_a_bound_passes_answers_and_errors_on() -> None:
    """What the directory says is said, its errors too."""
    bounded = BoundedDirectory(MemoryDirectory(), seconds=5)
    bounded.apply([SetAccount("a"), Assign("t", "a", 5)])

    assert bounded.histories(["t"]) == {"t": ((5, "a"),)}
    assert bounded.account("a") == Account("a")
    assert bounded.tenants_of("a") == ["t"]
    assert (bounded.external_ids("a"), bounded.account_of("x", "y")) == ([], None)
    assert bounded.changes(after=0).last == 2
    with pytest.raises(TypeError):
        bounded.histories([["no tenant"]])  # type: ignore[list-item]  # that is the mistake
    bounded.close()


class Threads(MemoryDirectory):
    """A directory that knows which threads asked it."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[threading.Thread] = []

    def histories(self, tenants: Sequence[str]) -> dict[str, History]:
        """Noted."""
        self.threads.append(threading.current_thread())
        return super().histories(tenants)


def test_questions_share_a_thread_that_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other they are asked by one thread; when nobody asks any more, it ends."""
    monkeypatch.setattr("meterstream_services.accounts.bounded.IDLE_SECONDS", 0.5)
    source = Threads()
    bounded = BoundedDirectory(source, seconds=30)
    for _ in range(100):
        bounded.histories(["t"])
    assert len(set(source.threads)) < 20

    eventually(lambda: not any(each.is_alive() for each in source.threads))
    assert bounded.histories(["t"]) == {}
    assert len(source.threads) == 101


def test_askers_at_once_hear_their_own_answers() -> None:
    """Many threads at once, more than are let through, each with its own tenant."""
    source = MemoryDirectory()
    source.apply([SetAccount("a"), *(Assign(f"t{n}", "a", n) for n in range(30))])
    bounded = BoundedDirectory(source, seconds=30, asking_max=4)
    right: list[bool] = []

    def ask(number: int) -> None:
        expected = {f"t{number}": ((number, "a"),)}
        right.append(all(bounded.histories([*expected]) == expected for _ in range(50)))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert right == [True] * 30


def test_a_workers_lookup_ends_in_time() -> None:
    """The function that a worker asks raises when the directory hangs, and answers when it can."""
    source = Hanging()
    source.apply([SetAccount("a"), Assign("t", "a", 50)])
    lookup = lookup_in(source, seconds=0.05)
    begun = time.monotonic()
    for _ in range(3):
        with pytest.raises(AccountsUnavailable):
            lookup("t", 60)
    assert time.monotonic() - begun < 5
    assert source.asked == 1

    source.gate.set()

    assert lookup_in(source, seconds=5)("t", 60) == "a"
    assert lookup_in(source, seconds=5)("t", 49) is None
