"""`meterstream keys`, and the commands that send a key."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from meterstream_services import keyless
from meterstream_services.cli.main import main
from meterstream_services.client import Api, ApiRefused
from meterstream_services.http.app import create_app, run
from meterstream_services.http.settings import Settings
from meterstream_services.keys.checking import Keys
from meterstream_services.keys.kept import open_keyring
from meterstream_services.keys.text import hash_of, id_of
from tests.unit.services.keys.making import Clock, Keyed
from tests.unit.services.keys.two_tenants import Service, filled_store

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """`meterstream keys ...` over one directory: exit status, stdout and stderr."""
    for name in [name for name in os.environ if name.startswith("METERSTREAM_")]:
        monkeypatch.delenv(name)

    def command(*arguments: str) -> tuple[int, str, str]:
        status = main(["keys", *arguments, "--data", str(tmp_path)])
        told = capsys.readouterr()
        return status, told.out, told.err

    return command


def made(keys: Callable[..., tuple[int, str, str]], *arguments: str) -> dict[str, Any]:
    """What `create --json` says."""
    status, out, err = keys("create", *arguments, "--json")
    assert (status, err) == (0, "")
    return dict(json.loads(out))


def test_a_key_is_shown_once(keys: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    """`create` shows the key; the list and the file have its id and hash, never its secret."""
    text = made(keys, "--scope", "ingest", "--tenant", "acme", "--label", "ci")["key"]

    _, listed, _ = keys("list", "--format", "json")

    [entry] = json.loads(listed)["keys"]
    assert entry["id"] == id_of(text)
    assert (entry["scopes"], entry["tenants"], entry["label"], entry["state"]) == (
        ["ingest"],
        ["acme"],
        "ci",
        "live",
    )
    secret = text[-43:]
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert secret not in listed
    assert secret.encode() not in kept
    assert hash_of(text).hex().encode() in kept


def test_a_key_for_people(keys: Callable[..., tuple[int, str, str]]) -> None:
    """Without --json the key stands in a line of its own, with what it is for."""
    status, out, _ = keys("create", "--scope", "read", "--all-tenants", "--expires", "90d")

    assert status == 0
    facts = dict(line.split(maxsplit=1) for line in out.splitlines()[:5])
    assert id_of(facts["key"]) == facts["id"]
    assert (facts["scopes"], facts["tenants"]) == ("read", "all")
    assert "this once" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--scope", "read"], "by --tenant NAME, or for all by --all-tenants"),
        (["--scope", "read", "--tenant", "a", "--all-tenants"], "pass one of them"),
        (["--scope", "admin", "--tenant", "a"], "make it for all (--all-tenants)"),
        (["--scope", "write", "--all-tenants"], "'write' is not one of"),
        (["--tenant", "a"], "Missing option '--scope'"),
        (["--scope", "read", "--tenant", ""], "is no tenant"),
        (["--scope", "read", "--tenant", "a" * 200], "is no tenant"),
        (["--scope", "read", "--all-tenants", "--expires", "soon"], "is not a duration"),
        (["--scope", "read", "--all-tenants", "--expires", "0d"], "name a later time"),
        (["--scope", "read", "--all-tenants", "--label", "a\nb"], "the label must be printable"),
        (["--scope", "read", "--all-tenants", "--events-per-second", "0"], "Invalid value"),
    ],
)
def test_mistakes(
    keys: Callable[..., tuple[int, str, str]], arguments: list[str], sentence: str
) -> None:
    """A wrong argument is one sentence and status 2, and no key is made."""
    status, out, err = keys("create", *arguments)

    assert (status, out) == (2, "")
    assert sentence in " ".join(err.split())
    assert json.loads(keys("list", "--format", "json")[1]) == {"keys": []}


def test_rotation_and_revocation(keys: Callable[..., tuple[int, str, str]]) -> None:
    """A rotated key names its successor and ends with the overlap; a revoked one has ended."""
    old = made(keys, "--scope", "ingest", "--tenant", "acme")

    status, out, _ = keys("rotate", old["id"], "--overlap", "1h", "--json")
    new = json.loads(out)
    assert status == 0
    assert (new["scopes"], new["tenants"]) == (["ingest"], ["acme"])
    assert keys("revoke", new["key"])[0] == 0  # The whole key does as well as its id.

    kept = {each["id"]: each for each in json.loads(keys("list", "--format", "json")[1])["keys"]}
    assert kept[old["id"]]["replaced_by"] == new["id"]
    assert kept[old["id"]]["expires"] is not None
    assert kept[new["id"]]["state"] == "revoked"
    again = keys("rotate", old["id"])
    assert (again[0], again[1]) == (1, "")
    assert "was replaced by" in again[2]
    assert "there is no key" in keys("revoke", "nobody00")[2]


def test_lists(keys: Callable[..., tuple[int, str, str]]) -> None:
    """Tables and CSV say `all` of a key for all tenants, and run nothing that a label says."""
    made(keys, "--scope", "read", "--all-tenants", "--label", "=1+1")

    assert "all" in keys("list")[1]
    csv = keys("list", "--format", "csv")[1]
    assert ",all," in csv
    assert "'=1+1" in csv


def test_the_first_key_into_a_file(
    keys: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    """A start script makes the first key once, into a file for its owner, and shows it nowhere."""
    path = tmp_path / "admin.key"
    arguments = ["create", "--scope", "admin", "--all-tenants", "--if-none", "--write", str(path)]

    status, out, _ = keys(*arguments)
    assert status == 0
    text = path.read_text().strip()
    assert id_of(text) is not None
    assert text not in out
    assert path.stat().st_mode & 0o077 == 0

    assert keys(*arguments)[1] == "there are keys already; none was made\n"
    assert path.read_text().strip() == text
    assert len(json.loads(keys("list", "--format", "json")[1])["keys"]) == 1


def test_a_file_that_is_there(keys: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    """A file is never written over, and then no key is made either."""
    path = tmp_path / "admin.key"
    path.write_text("precious")

    status, _, err = keys("create", "--scope", "read", "--all-tenants", "--write", str(path))

    assert status == 1
    assert "is there already" in err
    assert path.read_text() == "precious"
    assert json.loads(keys("list", "--format", "json")[1]) == {"keys": []}


def test_keys_that_cannot_be_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a place, or with one that is not there, a sentence says so."""
    monkeypatch.delenv("METERSTREAM_DATA", raising=False)
    assert main(["keys", "list"]) == 2
    assert "--keys is missing" in capsys.readouterr().err
    assert main(["keys", "list", "--keys", str(tmp_path / "none" / "k")]) == 1
    assert "there is no such directory for --keys; make it" in capsys.readouterr().err


def test_what_is_made_here_counts_elsewhere(
    keys: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    """A key that the command makes or revokes counts in a process that runs, within 2 seconds."""
    clock = Clock()
    checked = Keys(open_keyring(tmp_path / "keys.sqlite3"), anybody=True, clock=clock)
    assert checked.principal(None) is not None

    text = made(keys, "--scope", "read", "--all-tenants")["key"]
    clock.seconds += 2
    assert checked.principal(None) is None
    assert checked.principal(text) is not None

    keys("revoke", id_of(text) or "")
    clock.seconds += 2
    assert checked.principal(text) is None
    checked.close()


def test_serving_others_takes_a_key(
    keys: Callable[..., tuple[int, str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On an address of other machines too, a service starts only once a key was made."""
    place = tmp_path / "keys.sqlite3"
    for host in ("0.0.0.0", "::", "10.0.0.1", "example.org"):
        status = run(Settings(tmp_path / "s", tmp_path / "a", host=host, port=0, keys=place))
        told = capsys.readouterr().err
        assert status == 78
        assert "no API key was made yet" in told
        assert f"meterstream keys create --scope admin --all-tenants --keys {place}" in told
        assert keyless.why_not(host, None) is not None
    for host in ("127.0.0.1", "::1", "localhost", "127.1.2.3"):
        assert keyless.why_not(host, place) is None
    assert keyless.told(place, tmp_path).startswith("none made: anybody")

    made(keys, "--scope", "admin", "--all-tenants")

    assert keyless.why_not("10.0.0.1", place) is None
    assert keyless.told(place, tmp_path).startswith("demanded")
    assert keyless.why_not("10.0.0.1", tmp_path / "no" / "k") is None
    assert "cannot be read" in keyless.told(tmp_path / "no" / "k", tmp_path)


def test_commands_send_their_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's key goes with each request; what is no key is said, not sent."""
    seen: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization"))
        return httpx.Response(401, json={"detail": "this needs an API key"})

    transport = httpx.MockTransport(answer)
    monkeypatch.delenv("METERSTREAM_API_KEY", raising=False)
    for key in (None, "mk_live_1", " mk_live_2\n"):
        if key is not None:
            monkeypatch.setenv("METERSTREAM_API_KEY", key)
        with (
            Api("http://localhost:1", transport=transport) as api,
            pytest.raises(ApiRefused, match="METERSTREAM_API_KEY"),
        ):
            api.get("/v1/status")
    monkeypatch.setenv("METERSTREAM_API_KEY", "k\u00e9y\n2")
    with pytest.raises(ApiRefused, match="holds no API key"):
        Api("http://localhost:1", transport=transport)

    assert seen == [None, "Bearer mk_live_1", "Bearer mk_live_2"]


@pytest.mark.parametrize("url", ["http://usage.example", "http://10.0.0.7:8080"])
def test_commands_send_no_key_in_the_clear(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Over plain HTTP a key goes to this machine only, or where somebody said that it may."""
    monkeypatch.setenv("METERSTREAM_API_KEY", "mk_live_1")
    with pytest.raises(ApiRefused, match="in the clear"):
        Api(url)

    for good in (
        "http://127.0.0.1:1",
        "http://[::1]:1",
        "http://localhost",
        "https://usage.example",
    ):
        Api(good).close()
    monkeypatch.setenv("METERSTREAM_ALLOW_PLAIN_HTTP", "1")
    Api(url).close()
    monkeypatch.delenv("METERSTREAM_ALLOW_PLAIN_HTTP")
    monkeypatch.delenv("METERSTREAM_API_KEY")
    Api(url).close()


def test_status_says_that_nobody_is_asked(tmp_path: Path) -> None:
    """`/v1/status` tells aloud whether keys are asked for."""
    service = Service(tmp_path)
    assert service.send("admin", "GET", "/v1/status").json()["keys"] == "demanded"

    service.app = create_app(
        Settings(tmp_path / "s", tmp_path / "a"), open_store=filled_store, keys=Keyed().keys
    )
    told = service.send("none", "GET", "/v1/status").json()["keys"]
    assert told == "none made, anybody may do everything"
