"""A real broker in a container, for machines where Docker answers.

Kafka's own image takes its settings from the environment, one variable a setting, so it runs with
those of the embedded broker. The port is drawn before the start: what the broker advertises must be
where the tests reach it.
"""

from __future__ import annotations

import gc
import os
import socket
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from meterstream_infra.broker_settings import settings
from meterstream_infra.errors import BrokerUnreachable
from meterstream_infra.ports import draw_free_port
from meterstream_infra.topics import wait_for_broker

if TYPE_CHECKING:
    from collections.abc import Generator

IMAGE: Final = "apache/kafka:4.3.1"
_CONTROLLER_PORT: Final = 9093
_READY_SECONDS: Final = 60


class DockerUnavailable(Exception):
    """Docker cannot run the broker here."""


def docker_answers() -> bool:
    """Whether something listens where the environment says the Docker daemon is."""
    address = urlsplit(os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock")
    try:
        if address.scheme == "unix":
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.connect(address.path)
        else:
            socket.create_connection((address.hostname, address.port or 2375), timeout=2).close()
    except OSError:
        return False
    return True


@contextmanager
def docker_broker() -> Generator[str]:
    """Run the broker in a container; its address. The container goes with the block."""
    # Imported here: it takes half a second, and most machines never get this far.
    from docker.errors import DockerException  # noqa: PLC0415
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415

    port = draw_free_port()
    environment = {
        **settings(port=port, controller_port=_CONTROLLER_PORT),
        "listeners": f"PLAINTEXT://0.0.0.0:{port},CONTROLLER://0.0.0.0:{_CONTROLLER_PORT}",
        "log.dirs": "/tmp/meterstream",
    }
    container, reason = None, ""
    # Docker's client leaves sockets open when it fails; no test is to blame for that.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            container = DockerContainer(os.environ.get("METERSTREAM_TEST_IMAGE", IMAGE))
            container.with_bind_ports(port, port)
            for name, value in environment.items():
                container.with_env(f"KAFKA_{name.replace('.', '_').upper()}", value)
            container.start()
        except (DockerException, OSError) as problem:
            reason = f"{IMAGE} does not start: {problem}"
        gc.collect()
    if container is None or reason:
        raise DockerUnavailable(reason)
    try:
        address = f"127.0.0.1:{port}"
        try:
            wait_for_broker(address, timeout_seconds=_READY_SECONDS)
        except BrokerUnreachable as problem:
            raise DockerUnavailable(f"{IMAGE} is not ready: {problem}") from problem
        yield address
    finally:
        container.stop()
