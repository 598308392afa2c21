"""Where commands find the API and the broker."""

from __future__ import annotations

from pathlib import Path

import pytest

from meterstream_schemas.connection import Connection, write_connection
from meterstream_services.cli.addresses import (
    DEFAULT_URL,
    find_bootstrap,
    find_url,
    host_and_port,
)
from meterstream_services.cli.failures import CommandError


@pytest.fixture
def running(tmp_path: Path) -> Path:
    """A directory on which an `up` is ready."""
    write_connection(tmp_path, Connection("127.0.0.1:9001", "http://127.0.0.1:8001"))
    return tmp_path


def test_an_argument_wins_over_everything(running: Path) -> None:
    """--url and --bootstrap are taken whatever else names an address."""
    environment = {"METERSTREAM_URL": "http://e", "METERSTREAM_BOOTSTRAP_SERVERS": "e:1"}

    assert find_url(url="http://a", data=running, environment=environment)[0] == "http://a"
    found = find_bootstrap(bootstrap="a:1", data=running, environment=environment)
    assert found == ("a:1", "--bootstrap")


def test_the_data_argument_wins_over_the_environment(running: Path) -> None:
    """--data is an argument: its connection file comes before METERSTREAM_URL."""
    environment = {"METERSTREAM_URL": "http://e", "METERSTREAM_BOOTSTRAP_SERVERS": "e:1"}

    assert find_url(url=None, data=running, environment=environment)[0] == "http://127.0.0.1:8001"
    found = find_bootstrap(bootstrap=None, data=running, environment=environment)
    assert found.address == "127.0.0.1:9001"


def test_the_environment_names_an_address_before_its_directory(running: Path) -> None:
    """METERSTREAM_URL comes before METERSTREAM_DATA, which comes before the default."""
    both = {"METERSTREAM_URL": "http://e", "METERSTREAM_DATA": str(running)}

    assert find_url(url=None, data=None, environment=both) == ("http://e", "METERSTREAM_URL")
    del both["METERSTREAM_URL"]
    assert find_url(url=None, data=None, environment=both).address == "http://127.0.0.1:8001"
    assert find_url(url=None, data=None, environment={}) == (DEFAULT_URL, "default")


def test_a_directory_without_a_running_up_has_a_sentence(tmp_path: Path) -> None:
    """A named directory whose `up` does not run is said, with the ways out."""
    with pytest.raises(CommandError, match=r"names no API; is `meterstream up` .* --url"):
        find_url(url=None, data=tmp_path, environment={})
    with pytest.raises(CommandError, match=r"names no broker; is `meterstream up` .* --bootstrap"):
        find_bootstrap(bootstrap=None, data=tmp_path, environment={})
    with pytest.raises(CommandError, match=r"--data: .*absent does not exist, .* --bootstrap"):
        find_bootstrap(bootstrap=None, data=tmp_path / "absent", environment={})


def test_a_directory_of_the_environment_is_told_by_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """METERSTREAM_DATA is set: the sentence says which directory that is and what it lacks."""
    monkeypatch.chdir(tmp_path)
    environment = {"METERSTREAM_DATA": "./data"}

    with pytest.raises(CommandError, match="does not exist") as caught:
        find_bootstrap(bootstrap=None, data=None, environment=environment)
    assert str(tmp_path / "data") in str(caught.value)
    with pytest.raises(CommandError, match=r"METERSTREAM_DATA: .* does not exist"):
        find_url(url=None, data=None, environment=environment)

    (tmp_path / "data").mkdir()
    with pytest.raises(CommandError, match="names no broker; is `meterstream up`") as caught:
        find_bootstrap(bootstrap=None, data=None, environment=environment)
    assert str(tmp_path / "data" / "connection.toml") in str(caught.value)
    assert "set METERSTREAM_DATA" not in str(caught.value)
    address, origin = find_url(url=None, data=None, environment=environment)
    assert address == DEFAULT_URL
    assert "connection.toml names no API" in origin


def test_no_broker_named_has_a_sentence() -> None:
    """There is no default broker: events must not go to whatever listens somewhere."""
    with pytest.raises(CommandError, match="no broker is named"):
        find_bootstrap(bootstrap=None, data=None, environment={})


def test_a_broken_connection_file_has_a_sentence(tmp_path: Path) -> None:
    """A file that is not TOML is named."""
    (tmp_path / "connection.toml").write_text("url = ")

    with pytest.raises(CommandError, match=r"connection\.toml: not a readable connection file"):
        find_url(url=None, data=tmp_path, environment={})


@pytest.mark.parametrize(
    ("text", "expected"),
    [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:0", ("::1", 0)), ("host:65535", ("host", 65535))],
)
def test_addresses_to_listen_on(text: str, expected: tuple[str, int]) -> None:
    """HOST:PORT, with brackets around IPv6."""
    assert host_and_port(text, option="--http") == expected


@pytest.mark.parametrize("text", ["", "8080", ":80", "host:", "host:http", "host:65536", "h:٨"])
def test_what_is_no_address_is_a_wrong_argument(text: str) -> None:
    """Anything else is refused with the option's name and an example, exit status 2."""
    with pytest.raises(CommandError, match=r"--http .*HOST:PORT such as") as caught:
        host_and_port(text, option="--http")
    assert caught.value.status == 2
