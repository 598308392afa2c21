"""Where a broker is looked for, in order, and what is said when none is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from meterstream.errors import TransportUnavailable
from meterstream.settings import find_bootstrap_servers, find_registry_url, find_topic
from meterstream_schemas.connection import Connection, write_connection

if TYPE_CHECKING:
    from pathlib import Path


def test_arguments_win_over_environment_over_directory(tmp_path: Path) -> None:
    """Each source is used only when those before it say nothing."""
    write_connection(tmp_path, Connection("directory:1", ""))
    environment = {
        "METERSTREAM_BOOTSTRAP_SERVERS": "environment:1",
        "METERSTREAM_DATA": str(tmp_path),
    }

    assert find_bootstrap_servers("argument:1", None, environment) == "argument:1"
    assert find_bootstrap_servers(None, None, environment) == "environment:1"
    del environment["METERSTREAM_BOOTSTRAP_SERVERS"]
    assert find_bootstrap_servers(None, None, environment) == "directory:1"
    assert find_bootstrap_servers(None, tmp_path, {}) == "directory:1"


def test_nothing_at_all_says_what_to_set() -> None:
    """The sentence names the argument and the variables."""
    with pytest.raises(TransportUnavailable, match="set METERSTREAM_BOOTSTRAP_SERVERS or"):
        find_bootstrap_servers(None, None, {})


def test_a_directory_where_nothing_runs_is_named(tmp_path: Path) -> None:
    """The sentence leads to the missing file, or to the one that is not understood."""
    with pytest.raises(TransportUnavailable, match=r"connection\.toml names no broker; is"):
        find_bootstrap_servers(None, tmp_path, {})

    with pytest.raises(TransportUnavailable, match="absent does not exist, so it names no broker"):
        find_bootstrap_servers(None, tmp_path / "absent", {})

    (tmp_path / "connection.toml").write_text("=")
    with pytest.raises(TransportUnavailable, match=r"connection\.toml: not a readable"):
        find_bootstrap_servers(None, tmp_path, {})


def test_a_relative_directory_is_told_by_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that starts elsewhere looks elsewhere: the sentence shows where."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()

    for name, words in (("data", "names no broker; is"), ("other", "does not exist")):
        with pytest.raises(TransportUnavailable, match=words) as refusal:
            find_bootstrap_servers(None, None, {"METERSTREAM_DATA": f"./{name}"})
        assert str(tmp_path / name) in str(refusal.value)


def test_topic_and_registry_have_defaults() -> None:
    """The events topic, and no registry."""
    assert find_topic(None, {}) == "meterstream.events"
    assert find_topic(None, {"METERSTREAM_TOPIC": "t"}) == "t"
    assert find_topic("mine", {"METERSTREAM_TOPIC": "t"}) == "mine"
    assert find_registry_url(None, {}) is None
    assert find_registry_url(None, {"METERSTREAM_REGISTRY_URL": "http://r"}) == "http://r"
    assert find_registry_url("http://a", {"METERSTREAM_REGISTRY_URL": "http://r"}) == "http://a"


@pytest.mark.parametrize("servers", ["user:hush@broker:9092", "a:9092,SASL_SSL://u:hush@b:9092"])
def test_an_address_with_a_password_is_refused_without_repeating_it(servers: str) -> None:
    """Kafka knows no such address, and messages name the address."""
    with pytest.raises(TransportUnavailable, match="in kafka_settings") as refusal:
        find_bootstrap_servers(None, None, {"METERSTREAM_BOOTSTRAP_SERVERS": servers})
    assert "hush" not in str(refusal.value)
