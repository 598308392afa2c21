"""A package that is not installed: what to install is said where it is missed."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

import pytest

from meterstream.extras import needs

BLOCKED: Final = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {package!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
"""


def told(package: str, program: str) -> str:
    """What a program prints where this package cannot be imported."""
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED.format(package=package) + program],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("module", "extra", "package"),
    [
        ("integrations.celery", "celery", "celery"),
        ("integrations.fastapi", "fastapi", "fastapi"),
        ("integrations.flask", "flask", "flask"),
        ("integrations.grpc", "grpc", "grpc"),
        ("integrations.langchain", "langchain", "langchain_core"),
        ("integrations.litellm", "litellm", "litellm"),
        ("integrations.opentelemetry", "opentelemetry", "opentelemetry"),
        ("metrics", "metrics", "prometheus_client"),
        ("compat.usage_api", "compat", "httpx"),
        ("gateway_wire", "gateway", "httpx"),
    ],
)
def test_an_import_without_the_package_says_what_to_install(
    module: str, extra: str, package: str
) -> None:
    """In a sentence; the exception keeps the name of what is missing."""
    program = f"""
try:
    import meterstream.{module}
except ImportError as problem:
    print(problem.name.partition(".")[0], problem)
"""

    name, _, message = told(package, program).partition(" ")

    assert name == package
    wanted = f"meterstream.{module} needs pip install 'meterstream[{extra}]' (No module named "
    assert message.startswith(wanted)


def test_a_gateway_without_its_client_is_no_setting_that_can_be_used() -> None:
    """Told where the meter is made; the default meter keeps events and says why."""
    program = """
import meterstream
try:
    meterstream.Meter(gateway_url="http://127.0.0.1:1", api_key="k")
except meterstream.SettingsError as problem:
    print(problem)
"""

    assert told("httpx", program) == "gateway_url: needs pip install 'meterstream[gateway]'"


def test_another_trouble_of_an_import_stays_what_it_is() -> None:
    """Such as a version that lacks a name."""
    with pytest.raises(ImportError, match=r"x needs .*old one") as caught, needs("extra", "x"):
        raise ImportError("old one", name="package")

    assert type(caught.value) is ImportError
    assert caught.value.name == "package"
