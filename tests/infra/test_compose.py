"""The compose file starts what is there, in an order that works, with few rights."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest
import yaml

from meterstream_aggregator.store.address import PostgresAddress, parse_address
from meterstream_aggregator.store.postgres.roles import names
from meterstream_consumers.webhooks import secret_key
from tests.infra.commands import accept, is_read

if TYPE_CHECKING:
    from tests.databases import Postgres

FOLDER: Final = Path(__file__).parents[2] / "infra"
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((FOLDER / "compose.yaml").read_text("utf-8"))
SERVICES: Final[dict[str, dict[str, Any]]] = COMPOSE["services"]
OURS: Final = {name for name, service in SERVICES.items() if "build" in service}
JOBS: Final = {"topics", "migrate", "key"}
_HOSTS: Final = {"127.0.0.1", "0.0.0.0"}


def each(names: set[str] | dict[str, Any] = SERVICES) -> pytest.MarkDecorator:
    """A test of each service."""
    return pytest.mark.parametrize("name", sorted(names))


@each(OURS)
def test_a_command_is_one_that_the_program_takes(name: str) -> None:
    """Command and options exist, as the image's entry point would be given them."""
    accept(SERVICES[name]["command"])


@each(OURS)
def test_a_variable_is_one_that_the_program_reads(name: str) -> None:
    """A misspelt variable would be silently without effect."""
    for variable in SERVICES[name]["environment"]:
        assert variable.startswith("METERSTREAM_")
        assert is_read(variable), variable


def test_a_made_up_variable_and_command_are_noticed() -> None:
    """The two tests above can fail."""
    assert not is_read("METERSTREAM_BOOTSTRAP")
    with pytest.raises(Exception, match="No such option"):
        accept(["worker", "--metric-address", "x"])


@each()
def test_an_image_is_pinned(name: str) -> None:
    """Others' images by version and digest, ours by version."""
    if name in OURS:
        assert re.fullmatch(r"meterstream:\d+\.\d+\.\d+", SERVICES[name]["image"])
    else:
        wanted = r"[\w./-]+:v?\d[\w.-]*@sha256:[0-9a-f]{64}"
        assert re.fullmatch(wanted, SERVICES[name]["image"])


@each()
def test_a_service_has_few_rights_and_bounds(name: str) -> None:
    """No capabilities, no new privileges, bounded memory, processors, processes and logs."""
    service = SERVICES[name]

    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert service.get("read_only") is True or name == "kafka"
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert service["logging"]["options"]["max-size"]
    assert ("restart" in service) == (name not in JOBS)


@each()
def test_what_a_service_waits_for_can_come(name: str) -> None:
    """Health is waited for where there is a check, the end where there is one."""
    for other, wait in SERVICES[name].get("depends_on", {}).items():
        if wait["condition"] == "service_healthy":
            assert SERVICES[other]["healthcheck"]["test"][0] == "CMD"
        else:
            assert wait["condition"] == "service_completed_successfully"
            assert other in JOBS


@each()
def test_what_a_service_is_given_is_there(name: str) -> None:
    """Files lie in the tree, volumes and secrets are declared, ports are this machine's alone."""
    service = SERVICES[name]
    for volume in service.get("volumes", []):
        source, *rest = volume.split(":")
        if source.startswith("."):
            assert (FOLDER / source).exists(), source
            assert rest[-1] == "ro"
        else:
            assert source in COMPOSE["volumes"]
    for secret in service.get("secrets", []):
        assert secret in COMPOSE["secrets"]
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:")
    for variable, value in service.get("environment", {}).items():
        if variable.endswith("_FILE"):
            assert Path(value).parent == Path("/run/secrets")
            assert Path(value).name in service["secrets"]


@each({name for name in OURS if "healthcheck" in SERVICES[name]} - JOBS)
def test_health_is_asked_where_the_process_answers(name: str) -> None:
    """The check asks at the address that the command line listens on."""
    service = SERVICES[name]
    command, check = service["command"], service["healthcheck"]["test"]
    option = "--http" if command[0] == "serve" else "--metrics"
    listens = command[command.index(option) + 1].rpartition(":")[2]

    assert check[:4] == ["CMD", "python", "-m", "meterstream_services.healthy"]
    asked = check[4] if len(check) > 4 else "http://127.0.0.1:9464/readyz"
    assert f":{listens}/" in asked


def test_prometheus_scrapes_what_runs() -> None:
    """Every target is a service at the port of its metrics, and none is left out."""
    configuration = yaml.safe_load((FOLDER / "prometheus/prometheus.yml").read_text("utf-8"))
    targets = {
        target
        for job in configuration["scrape_configs"]
        for group in job["static_configs"]
        for target in group["targets"]
    }

    listening = {
        f"{name}:{word.rpartition(':')[2]}"
        for name in OURS
        for word in SERVICES[name]["command"]
        if word.partition(":")[0] in _HOSTS
    }
    assert targets == listening


def test_grafana_finds_its_sources_and_boards() -> None:
    """Sources are services of this file, and the boards are mounted where they are looked for."""
    folder = FOLDER / "grafana/provisioning"
    sources = yaml.safe_load((folder / "datasources/meterstream.yaml").read_text("utf-8"))
    providers = yaml.safe_load((folder / "dashboards/meterstream.yaml").read_text("utf-8"))
    grafana = SERVICES["grafana"]

    hosts = {
        source["url"].removeprefix("http://").partition(":")[0] for source in sources["datasources"]
    }
    mounted = {volume.split(":")[1] for volume in grafana["volumes"]}
    assert hosts == {"prometheus", "postgres"}
    assert {provider["options"]["path"] for provider in providers["providers"]} <= mounted
    assert "reader_password" in grafana["secrets"]


def test_no_secret_is_in_the_file() -> None:
    """Passwords come from files; the store's address has none."""
    for name in OURS:
        if text := SERVICES[name]["environment"].get("METERSTREAM_STORE"):
            address = parse_address(text)
            assert isinstance(address, PostgresAddress)
            assert address.url == text
            assert address.schema == "meterstream"
            assert re.match(r"postgresql://[a-z]+@postgres:5432/", text)


def test_secrets_are_made_once(tmp_path: Path) -> None:
    """The script makes each that is missing, such as they must be, and changes none."""
    script = shutil.copy(FOLDER / "secrets.sh", tmp_path)

    made: list[dict[str, str]] = []
    for _ in range(2):
        subprocess.run(["sh", str(script)], check=True)
        made.append({path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()})

    assert made[0] == made[1]
    assert set(made[0]) == set(COMPOSE["secrets"])
    assert len(secret_key(made[0]["webhook_secret"])) == 32
    assert len(base64.urlsafe_b64decode(made[0]["owner_password"])) == 24
    assert len(set(made[0].values())) == 5
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700


def test_logins_have_the_roles_that_migrate_grants_to(postgres: Postgres) -> None:
    """Worker and reader may log in, own nothing, and stand behind the two roles of the store."""
    file = FOLDER / "postgres/roles.sh"
    # One that may not be run is read into the image's own script, which `set -u` would break.
    assert os.access(file, os.X_OK)
    script = file.read_text("utf-8")
    [sql] = re.findall(r"<<'SQL'\n(.*?)\nSQL", script, re.DOTALL)
    # Roles are the whole server's: those of this test have names of their own, and go again.
    sql = re.sub(r"\b(?=(?:meterstream_)?(?:worker|reader)\b)", "of_a_test_", sql)
    sql = re.sub(r":'\w+'", "'of a test'", sql)

    with psycopg.connect(postgres.url) as connection:
        connection.execute(sql.encode())
        found = connection.execute(
            "SELECT member.rolname, role.rolname FROM pg_auth_members"
            " JOIN pg_roles AS member ON member.oid = pg_auth_members.member"
            " JOIN pg_roles AS role ON role.oid = roleid WHERE member.rolname LIKE 'of_a_test_%'"
            " AND member.rolcanlogin AND NOT member.rolsuper AND NOT member.rolcreaterole"
        ).fetchall()
        connection.rollback()

    wanted = {"worker", "reader"}
    stores = {name.removeprefix("meterstream_") for name in names(PostgresAddress("x"))}
    assert stores == wanted
    assert set(found) == {(f"of_a_test_{who}", f"of_a_test_meterstream_{who}") for who in wanted}
