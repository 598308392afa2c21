"""Is a file on a network file system? There SQLite's locks and shared memory do not hold.

A store in a file is for one machine. On a network file system a second machine would find the file,
be let in by locks that do not reach across, and both would spoil it. On Linux
``/proc/self/mountinfo`` tells what a path lies on (proc(5)); elsewhere nobody is asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from meterstream_aggregator.errors import StoreMismatch

MOUNTS: Final = Path("/proc/self/mountinfo")
_KINDS: Final = (
    "nfs nfs4 cifs smb3 smbfs ncpfs afs 9p coda ceph glusterfs lustre gpfs beegfs orangefs pvfs2"
    " ocfs2 gfs2 davfs"
)
"""File systems that more than one machine may write to."""
_FUSE_KINDS: Final = (
    "sshfs glusterfs ceph ceph-fuse s3fs s3ql s3backer mount-s3 mountpoint-s3 goofys geesefs rclone"
    " davfs davfs2 gcsfuse gcsfs blobfuse blobfuse2 juicefs mfs moosefs lizardfs seaweedfs weed"
    " smbnetfs smb-network curlftpfs cvmfs2 afuse hdfs fuse_dfs google-drive-ocamlfuse onedriver"
    " objectivefs"
)
"""As FUSE has them behind ``fuse.``."""
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")


class Mount(NamedTuple):
    """A line of mountinfo: where it is mounted, the kind of file system, what is mounted."""

    place: Path
    kind: str
    source: str


def refuse_network_file(path: Path) -> None:
    """Raise `StoreMismatch` for a file, there or not yet, on a network file system."""
    mount = mount_of(path.resolve(), _mounts())
    if mount is not None and is_network(mount.kind):
        raise StoreMismatch(
            f"{path}: lies on {mount.place}, a network file system ({mount.kind} of "
            f"{mount.source}), where SQLite's locks do not hold; keep the file on a disk of this "
            "machine, or, for workers on more than one machine, use PostgreSQL: "
            "--store postgresql://…"
        )


def is_network(kind: str) -> bool:
    """Whether more than one machine may write to file systems of this kind."""
    family, _, of_fuse = kind.partition(".")
    return kind in _KINDS.split() or (family == "fuse" and of_fuse in _FUSE_KINDS.split())


def mount_of(path: Path, mounts: Iterable[Mount]) -> Mount | None:
    """What an absolute path lies on: the innermost, of two at one place the later one."""
    found: Mount | None = None
    for mount in mounts:
        is_inner = found is None or len(mount.place.parts) >= len(found.place.parts)
        if is_inner and path.is_relative_to(mount.place):
            found = mount
    return found


def parse_mounts(text: str) -> list[Mount]:
    """The mounts that mountinfo tells of, in its order; lines of another form are left out."""
    mounts: list[Mount] = []
    for line in text.splitlines():
        before, dash, after = line.partition(" - ")
        fields, kinds = before.split(" "), after.split(" ")
        if dash and len(fields) >= 5 and len(kinds) >= 2:
            mounts.append(Mount(Path(_plain(fields[4])), kinds[0], _plain(kinds[1])))
    return mounts


def _mounts() -> list[Mount]:
    try:
        return parse_mounts(MOUNTS.read_text("utf-8", "surrogateescape"))
    except OSError:
        return []


def _plain(text: str) -> str:
    """Blanks and backslashes come as octal numbers of bytes."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), text)
