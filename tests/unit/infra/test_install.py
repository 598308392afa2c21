"""`make install`: its stages, as somebody at a terminal sees them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "infra/install.sh"
LOCK = """\
# made by hand
alpha==1.0 \\
    --hash=sha256:00
beta-x==2.0 ; python_version < '3.12' \\
    --hash=sha256:01 \\
    --hash=sha256:02
"""
STAND_IN = """\
#!/bin/sh
echo "$1 $2" >>"{log}"
case "$1 $2" in {fails}) echo "no luck" >&2; exit 3 ;; esac
mkdir -p .venv/bin
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree to install, with two packages in its lock."""
    (tmp_path / "infra").mkdir()
    shutil.copy(SCRIPT, tmp_path / "infra")
    (tmp_path / "requirements.lock").write_text(LOCK)
    return tmp_path


def install(tree: Path, *, fails: str = "nothing") -> tuple[int, list[str], list[str]]:
    """Run it with a stand-in for uv: its exit status, its lines, and what uv was called for."""
    tools, log = tree / "tools", tree / "calls"
    tools.mkdir()
    uv = tools / "uv"
    uv.write_text(STAND_IN.format(log=log, fails=fails))
    uv.chmod(0o755)
    found = subprocess.run(
        ["/bin/sh", str(tree / "infra/install.sh")],
        env={"PATH": f"{tools}:{os.defpath}", "PYTHON_FOR_VENV": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    return found.returncode, found.stderr.splitlines(), log.read_text().splitlines()


def test_every_stage_is_told_before_it_begins(tree: Path) -> None:
    """With how many packages there are: the longest stage says nothing by itself."""
    status, said, calls = install(tree)

    assert status == 0
    assert [line.partition(", ")[0] for line in said] == [
        "install: 1 of 3: an environment in .venv",
        "install: 2 of 3: up to 2 packages of requirements.lock",
        "install: 3 of 3: meterstream itself",
        "install: ready: .venv/bin/meterstream",
    ]
    assert calls == ["venv --quiet", "pip sync", "pip install"]
    assert (tree / ".venv/installed").exists()


def test_a_stage_that_fails_is_the_last_one_told(tree: Path) -> None:
    """Nothing is marked as installed, so that the next call begins again."""
    status, said, calls = install(tree, fails='"pip sync"')

    assert status == 3
    assert said[-2].startswith("install: 2 of 3")
    assert said[-1] == "no luck"
    assert calls[-1] == "pip sync"
    assert not (tree / ".venv/installed").exists()
