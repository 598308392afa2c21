"""What `meterstream up` says once everything is ready."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from meterstream_services.keys.kept import open_keyring
from meterstream_services.keys.model import Key
from meterstream_services.keys.principal import Scope
from meterstream_services.keys.text import hash_of, new_key
from meterstream_services.metric_meters import MetricMeters
from meterstream_services.up import KEYS_NAME, UpSettings, _Machine

if TYPE_CHECKING:
    from pathlib import Path


def said(data: Path, *unimeter: str) -> str:
    """What is said of a machine over this directory."""
    told: list[str] = []
    meters = MetricMeters(data, data / "catalogue.yaml", data / "store.sqlite3", say=told.append)
    machine = _Machine(
        UpSettings(data, [], unimeter=unimeter), meters, 8080, told.append, io.StringIO()
    )
    machine._tell("127.0.0.1:9092", "http://127.0.0.1:8080")
    (whole,) = told
    return whole


def test_it_says_aloud_whether_keys_are_asked_for(tmp_path: Path) -> None:
    """Nobody shall learn from an incident that anybody may do everything."""
    before = said(tmp_path).splitlines()
    text = new_key()
    keyring = open_keyring(tmp_path / KEYS_NAME)
    keyring.add(Key(text.id, hash_of(text.text), frozenset({Scope.READ}), None, 1))
    keyring.close()
    after = said(tmp_path).splitlines()

    assert "  keys           none made: anybody on this machine may do everything" in before
    assert f"  keys           demanded   (meterstream keys list --data {tmp_path})" in after
    assert not any("anybody" in line for line in after)


def test_it_says_where_unimeters_clients_connect(tmp_path: Path) -> None:
    """Each port, as it was asked for; without one nothing is said of it."""
    told = said(tmp_path, "127.0.0.1:7001", "acme=127.0.0.1:7002").splitlines()

    assert "  Unimeter       127.0.0.1:7001   (TCP)" in told
    assert "  Unimeter       acme=127.0.0.1:7002   (TCP)" in told
    assert "Unimeter" not in said(tmp_path)
