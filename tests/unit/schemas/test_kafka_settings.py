"""What of the environment reaches Kafka's client, and what is refused by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from meterstream_schemas.errors import SettingRefused
from meterstream_schemas.kafka_settings import client_settings, connection_settings

if TYPE_CHECKING:
    from pathlib import Path


def test_security_settings_are_passed_on() -> None:
    """Protocol, user, password and certificates reach the client under librdkafka's names."""
    environment = {
        "METERSTREAM_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "METERSTREAM_KAFKA_SASL_USERNAME": "worker",
        "METERSTREAM_KAFKA_SSL_CA_LOCATION": "/certificates/ca.pem",
        "METERSTREAM_KAFKA_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM": "https",
        "METERSTREAM_TOPIC": "not ours",
    }

    assert client_settings("kafka:9093", environment) == {
        "bootstrap.servers": "kafka:9093",
        "security.protocol": "SASL_SSL",
        "sasl.username": "worker",
        "ssl.ca.location": "/certificates/ca.pem",
        "ssl.endpoint.identification.algorithm": "https",
    }


def test_a_secret_may_lie_in_a_file(tmp_path: Path) -> None:
    """The file's text is the value, without the line's end that an editor leaves."""
    secret = tmp_path / "password"
    secret.write_text("hunter 2\n", "utf-8")

    found = connection_settings({"METERSTREAM_KAFKA_SASL_PASSWORD_FILE": str(secret)})

    assert found == {"sasl.password": "hunter 2"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ACKS", "1"),
        ("ENABLE_IDEMPOTENCE", "false"),
        ("ENABLE_AUTO_COMMIT", "true"),
        ("AUTO_OFFSET_RESET", "latest"),
        ("ISOLATION_LEVEL", "read_uncommitted"),
        ("GROUP_ID", "other"),
        ("SSL_ENDPOINT_IDENTIFICATION_ALGORITHM", "none"),
        ("ENABLE_SSL_CERTIFICATE_VERIFICATION", "false"),
        ("MAX_POLL_INTERVAL_MS", "1"),
        ("ACKS_FILE", "/some/file"),
    ],
)
def test_what_promises_rest_on_is_refused(name: str, value: str) -> None:
    """Refused by the variable's name, with what to do: never taken, and never quietly ignored."""
    with pytest.raises(SettingRefused, match=f"METERSTREAM_KAFKA_{name}: .*remove it"):
        connection_settings({f"METERSTREAM_KAFKA_{name}": value})


def test_how_the_sdk_sends_is_nothing_to_a_worker() -> None:
    """One environment may serve both: the SDK's tuning neither reaches us nor stops us."""
    assert connection_settings({"METERSTREAM_KAFKA_LINGER_MS": "5"}) == {}


def test_a_missing_file_and_a_second_value_are_told(tmp_path: Path) -> None:
    """Both name the variable."""
    with pytest.raises(SettingRefused, match=r"SASL_PASSWORD_FILE: its file cannot be read"):
        connection_settings({"METERSTREAM_KAFKA_SASL_PASSWORD_FILE": str(tmp_path / "none")})
    (tmp_path / "one").write_text("a", "utf-8")
    twice = {
        "METERSTREAM_KAFKA_SASL_PASSWORD": "b",
        "METERSTREAM_KAFKA_SASL_PASSWORD_FILE": str(tmp_path / "one"),
    }
    with pytest.raises(SettingRefused, match="given twice"):
        connection_settings(twice)
