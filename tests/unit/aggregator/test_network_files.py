"""Which files lie on a network file system: mountinfo read as proc(5) has it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from meterstream_aggregator.errors import StoreMismatch
from meterstream_aggregator.store import network_files
from meterstream_aggregator.store.network_files import (
    Mount,
    is_network,
    mount_of,
    parse_mounts,
    refuse_network_file,
)
from meterstream_aggregator.store.sqlite import SqliteStore
from meterstream_aggregator.store.sqlite_migrations import migrate
from meterstream_aggregator.store.sqlite_reader import open_reader

MOUNTINFO = r"""
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
36 35 98:0 /mnt1 /mnt/parent rw,noatime master:1 shared:7 - xfs /dev/root rw,errors=continue
40 22 0:44 / /mnt/parent/two\040words rw - nfs4 files:/a\040b rw,vers=4.2
41 22 0:45 / /srv rw - cifs //office/share rw
42 22 0:46 / /srv rw - tmpfs tmpfs rw
nonsense
""".lstrip()


def test_mountinfo_is_read() -> None:
    """Optional fields before the dash may be any; blanks in names are octal."""
    mounts = parse_mounts(MOUNTINFO)

    assert [mount.kind for mount in mounts] == ["ext4", "xfs", "nfs4", "cifs", "tmpfs"]
    assert mounts[2] == Mount(Path("/mnt/parent/two words"), "nfs4", "files:/a b")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/store", "ext4"),
        ("/mnt/parent/store", "xfs"),
        ("/mnt/parent/two words/deep/store", "nfs4"),
        ("/mnt/parent/two words else/store", "xfs"),
        ("/srv/store", "tmpfs"),
    ],
)
def test_the_innermost_mount_counts(path: str, kind: str) -> None:
    """Of two at one place the later one hides the earlier."""
    mount = mount_of(Path(path), parse_mounts(MOUNTINFO))

    assert mount is not None
    assert mount.kind == kind


def test_which_kinds_are_network() -> None:
    """NFS, SMB and FUSE's network file systems are; disks, memory and layers are not."""
    network = ["nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "fuse.sshfs", "fuse.s3fs"]
    local = ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "apfs", "fuseblk", "fuse.ntfs"]

    assert [kind for kind in network + local if is_network(kind)] == network


def test_a_store_on_a_network_file_system_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Worker, reader and migration say that PostgreSQL is for more than one machine."""
    local, told = tmp_path / "store.sqlite3", tmp_path / "mountinfo"
    SqliteStore(local).close()
    told.write_text(f"22 1 0:4 / {tmp_path.resolve()} rw - nfs4 files:/export rw\n")
    monkeypatch.setattr(network_files, "MOUNTS", told)

    for opened in (SqliteStore, open_reader, migrate):
        with pytest.raises(StoreMismatch, match=r"nfs4 of files:/export.*one machine.*PostgreSQL"):
            opened(local)
    with pytest.raises(StoreMismatch, match="network file system"):
        SqliteStore(tmp_path / "not there yet")
    assert [path.name for path in tmp_path.iterdir() if "not there" in path.name] == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what is mounted where")
def test_this_machine_tells_its_mounts(tmp_path: Path) -> None:
    """The real mountinfo has something for every path, and a test's directory is local."""
    mounts = parse_mounts(network_files.MOUNTS.read_text())

    assert mount_of(tmp_path.resolve(), mounts) is not None
    refuse_network_file(tmp_path / "store")


def test_where_nothing_tells_of_mounts_nothing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS."""
    monkeypatch.setattr(network_files, "MOUNTS", tmp_path / "absent")

    SqliteStore(tmp_path / "store").close()
