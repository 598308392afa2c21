"""The wheel: everything a package needs at run time is in it, and nothing else is."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import pytest

from tests.tidy.sources import PACKAGES, ROOT, files

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names of the files in a wheel built from the tree."""
    target = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", target],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (built,) = target.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        return archive.namelist()


def test_wheel_holds_every_file_of_the_packages(wheel: list[str]) -> None:
    """Modules, schemas, SQL, pinned jars and type markers all reach whoever installs it."""
    expected = {
        path.relative_to(ROOT / PurePosixPath(package).parent).as_posix()
        for package in PACKAGES
        for path in files()
        if _is_under(path, ROOT / package)
    }

    assert expected - set(wheel) == set()
    for package in PACKAGES:
        assert f"{PurePosixPath(package).name}/py.typed" in wheel
    assert any(name.endswith(".avsc") for name in wheel)


def test_wheel_brings_no_other_top_level_name(wheel: list[str]) -> None:
    """Nothing called tests, infra or schemas lands in anyone's site-packages."""
    names = {name.split("/", 1)[0] for name in wheel if ".dist-info/" not in name}

    assert names == {PurePosixPath(package).name for package in PACKAGES}


def _is_under(path: Path, directory: Path) -> bool:
    return directory in path.parents
