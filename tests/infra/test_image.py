"""The image holds what the processes import, from files that are there, and runs as nobody."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tests.infra.commands import is_read

ROOT: Final = Path(__file__).parents[2]
TEXT: Final = (ROOT / "infra/image/Dockerfile").read_text("utf-8")
_PROCESSES: Final = (
    "meterstream_consumers.worker",
    "meterstream_consumers.webhooks",
    "meterstream_services.cli.app",
    "meterstream_services.cli.run",
    "meterstream_services.http.app",
    "meterstream_aggregator.store.postgres.store",
    "meterstream_aggregator.store.postgres.reader",
    "meterstream_aggregator.store.sqlite",
    "meterstream_infra.topics",
    "meterstream_schemas.registry",
)


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, continued lines joined and comments left out."""
    lines = [line for line in TEXT.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest.strip()) for line in joined.splitlines() if line.strip()
            for word, _, rest in [line.partition(" ")]]  # fmt: skip


def pins(lock: Path) -> dict[str, str]:
    """Version by distribution in a lock file."""
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", lock.read_text("utf-8"), re.MULTILINE))


def test_the_base_is_pinned_by_digest() -> None:
    """Both stages are of one base, named once, by its digest."""
    bases = [rest.split()[0] for word, rest in instructions() if word == "FROM"]
    [default] = [rest for word, rest in instructions() if rest.startswith("PYTHON_IMAGE=")]

    assert bases == ["${PYTHON_IMAGE}", "${PYTHON_IMAGE}"]
    assert re.fullmatch(r"PYTHON_IMAGE=python:3\.\d+-slim@sha256:[0-9a-f]{64}", default)
    assert "latest" not in TEXT


def test_the_process_is_the_first_and_nobody() -> None:
    """No shell stands between: signals reach the program that drains."""
    last = instructions()
    found = dict(last)
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]

    assert json.loads(found["ENTRYPOINT"]) == ["meterstream"]
    assert "meterstream" in scripts
    assert json.loads(found["CMD"]) == ["--help"]
    assert found["USER"] == "10001:10001"
    assert found["STOPSIGNAL"] == "SIGTERM"
    assert not [word for word, _ in last if word in {"ADD", "SHELL", "VOLUME"}]
    assert [word for word, _ in last].index("USER") < [word for word, _ in last].index("ENTRYPOINT")


def test_the_health_check_is_a_module_of_ours() -> None:
    """It needs no curl and no shell."""
    [check] = [rest for word, rest in instructions() if word == "HEALTHCHECK"]
    command = json.loads(check.partition("CMD ")[2])

    assert command[:2] == ["python", "-m"]
    assert find_spec(command[2]) is not None


def test_everything_copied_is_there_and_not_ignored() -> None:
    """Each source is in the tree and let through by .dockerignore; every package is copied."""
    ignored = (ROOT / ".dockerignore").read_text("utf-8").split("\n")
    let_through = {line[1:] for line in ignored if line.startswith("!")}
    copied = [
        source
        for word, rest in instructions()
        if word == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    ]

    for source in copied:
        assert (ROOT / source).exists(), source
        assert {source, *map(str, Path(source).parents)} & let_through, source
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    for package in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        assert {package, str(Path(package).parent)} & set(copied), package
    assert {project["project"]["readme"], *project["project"]["license-files"]} <= set(copied)


def test_variables_of_the_image_are_read() -> None:
    """A misspelt one would be without effect."""
    [variables] = [rest for word, rest in instructions() if word == "ENV"]

    names = re.findall(r"\b(METERSTREAM_\w+)=", variables)
    assert names
    assert all(is_read(name) for name in names)


def test_the_images_lock_is_part_of_the_whole() -> None:
    """What runs in the image was tested: the same versions, every one with hashes."""
    whole = pins(ROOT / "requirements.lock")
    for name in ("requirements.lock", "build.lock"):
        lock = ROOT / "infra/image" / name
        found = pins(lock)

        assert found
        assert {key: whole.get(key) for key in found} == found, "run `make lock`"
        assert (
            lock.read_text("utf-8").count("==") * 2 <= lock.read_text("utf-8").count("sha256:") * 2
        )
        for entry in re.split(r"\n(?=[\w.-]+==)", lock.read_text("utf-8"))[1:]:
            assert "--hash=sha256:" in entry, entry[:60]


def test_what_the_processes_import_is_in_the_lock() -> None:
    """Every distribution that a module of worker, services or commands imports is installed."""
    program = (
        "import importlib, json, sys\n"
        f"for name in {_PROCESSES!r}: importlib.import_module(name)\n"
        "ours = [m for name, m in sys.modules.items() if name.startswith('meterstream')]\n"
        "print(json.dumps([m.__file__ for m in ours if getattr(m, '__file__', None)]))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    known = packages_distributions()
    loaded = {
        re.sub(r"[-_.]+", "-", distribution).lower()
        for file in json.loads(ended.stdout)
        for top in _imported(Path(file))
        for distribution in known.get(top, [])
    }

    locked = set(pins(ROOT / "infra/image/requirements.lock")) | {"meterstream"}
    assert {"confluent-kafka", "psycopg", "fastapi", "numpy"} <= loaded
    assert loaded <= locked


def _imported(file: Path) -> set[str]:
    """The first part of every name that the module imports when it is loaded."""
    found: set[str] = set()
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found
