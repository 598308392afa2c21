"""The directory of one spool, held by a lock; see `meterstream.spool` for the why."""

from __future__ import annotations

import errno
import os
import re
import stat
import time as clock
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from meterstream.errors import SettingsError

PROGRESS: Final = "progress"
_NOTES: Final = (PROGRESS, "route.json", "route.json.new")
"""What may stand beside segments: how far they are acknowledged, and where they are to go."""
_PRODUCER: Final = re.compile(r"[0-9a-f]{32}")
_SEGMENT: Final = re.compile(r"[0-9]{20}\.segment")
_DIGITS: Final = 20
_FIRST_MAX: Final = 2**63
"""No index ever gets there; a file that says so is none of ours."""
_NOT_OURS: Final = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO, errno.ENOENT})
"""What opening a link, a directory, a pipe or nothing at all answers."""
_LOCK_ATTEMPTS: Final = 200
_LOCK_PAUSE_SECONDS: Final = 0.005


class Directory:
    """One directory with its lock held, and what can be done inside. Links are never followed."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path: Final = path.absolute()
        self._descriptor = descriptor

    @property
    def closed(self) -> bool:
        """Whether it was released or abandoned."""
        return self._descriptor < 0

    @classmethod
    def create(cls, path: Path, *, fsync: bool) -> Self:
        """Make it, for its owner only, and lock it. OSError when it is there already."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.mkdir(mode=0o700)
        try:
            made = cls._take_new(path)
            if fsync:
                try:
                    _sync(path.parent)
                except OSError:
                    made.release()
                    raise
        except BaseException:
            with suppress(OSError):  # Or the next attempt finds it there.
                path.rmdir()
            raise
        return made

    @classmethod
    def _take_new(cls, path: Path) -> Self:
        for _ in range(_LOCK_ATTEMPTS):
            if made := cls.take(path):
                return made
            # Someone who looks for what is left behind holds the lock, or found an empty
            # directory and removed it, between our two steps.
            with suppress(FileExistsError):
                path.mkdir(mode=0o700)
                continue
            clock.sleep(_LOCK_PAUSE_SECONDS)
        raise BlockingIOError(errno.EAGAIN, "another process holds the lock of", str(path))

    @classmethod
    def take(cls, path: Path, *, shared: bool = False) -> Self | None:
        """Lock what is there; None when it is gone, no directory, or held by a living process."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError as problem:
            if problem.errno in _NOT_OURS:
                return None
            raise
        try:
            if _lock(descriptor, shared=shared) and _is_at(descriptor, path):
                return cls(path, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def open(self, name: str, flags: int) -> int | None:
        """Open a regular file, new ones for their owner only; None when it is none, or not there.

        Without O_NONBLOCK a planted pipe would hold up whoever opens it.
        """
        flags |= os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            descriptor = os.open(name, flags, 0o600, dir_fd=self._descriptor)
        except OSError as problem:
            if problem.errno in _NOT_OURS:
                return None
            raise
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        return None

    def segment_names(self) -> list[str]:
        """The names of segments, oldest first. A link or a pipe of such a name is none."""
        names = os.listdir(self._descriptor)  # noqa: PTH208 - Path takes no descriptor
        return sorted(name for name in names if _is_segment(name) and self.size_of(name) >= 0)

    def size_of(self, name: str) -> int:
        """The bytes of a regular file; -1 when it is none, or gone."""
        with suppress(OSError):
            status = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode):
                return status.st_size
        return -1

    def unlink(self, name: str) -> bool:
        """Whether the name is gone now."""
        try:
            os.unlink(name, dir_fd=self._descriptor)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    def set_aside(self, name: str) -> None:
        """Give a file a name that no spool looks at, for a person to find. OSError."""
        fd = self._descriptor
        os.rename(name, f"{name}.foreign", src_dir_fd=fd, dst_dir_fd=fd)

    def sync(self) -> None:
        """Make names of files survive a loss of power."""
        os.fsync(self._descriptor)

    def remove(self) -> None:
        """Remove it when nothing but notes is left in it. Keeps the lock."""
        if not self.segment_names():
            for name in _NOTES:
                self.unlink(name)
            with suppress(OSError):
                self.path.rmdir()

    def release(self) -> None:
        """Let go of the lock, even where a forked child still has the descriptor."""
        if self._descriptor >= 0:
            with suppress(OSError, ImportError):  # The interpreter may be on its way out.
                import fcntl  # noqa: PLC0415 - not there on Windows

                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            self.abandon()

    def abandon(self) -> None:
        """Close the descriptor and leave the lock to the process that took it."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with suppress(OSError):
                os.close(descriptor)


def left_behind(root: Path) -> list[Path]:
    """The directories below ``root`` that no living process holds, oldest first.

    Removes empty ones on the way. Those that may not be opened are somebody else's.
    """
    found: list[tuple[int, Path]] = []
    for path in _directories(root):
        with suppress(OSError):
            if directory := Directory.take(path, shared=True):
                try:
                    if _segment_sizes(path):
                        found.append((path.lstat().st_mtime_ns, path))
                        continue
                finally:
                    directory.release()
                _remove_empty(path)
    return [path for _, path in sorted(found)]


def size_of(root: Path) -> int:
    """The bytes of every spool below ``root``, held or not."""
    total = 0
    for path in _directories(root):
        with suppress(OSError):
            total += sum(_segment_sizes(path))
        with suppress(OSError):
            total += (path / PROGRESS).lstat().st_size
    return total


def is_producer(name: str) -> bool:
    """Whether a directory of this name can be a spool."""
    return bool(_PRODUCER.fullmatch(name))


def segment_name(first: int) -> str:
    """The name of the segment whose first record has this index."""
    return f"{first:0{_DIGITS}d}.segment"


def first_of(name: str) -> int:
    """The inverse of `segment_name`."""
    return int(name[:_DIGITS])


def _is_segment(name: str) -> bool:
    return bool(_SEGMENT.fullmatch(name)) and 0 < first_of(name) < _FIRST_MAX


def _directories(root: Path) -> list[Path]:
    try:
        with os.scandir(root) as entries:
            return [
                root / entry.name
                for entry in entries
                if is_producer(entry.name) and entry.is_dir(follow_symlinks=False)
            ]
    except OSError:
        return []


def _segment_sizes(path: Path) -> list[int]:
    with os.scandir(path) as entries:
        return [
            entry.stat(follow_symlinks=False).st_size
            for entry in entries
            if _is_segment(entry.name) and entry.is_file(follow_symlinks=False)
        ]


def _remove_empty(path: Path) -> None:
    if directory := Directory.take(path):
        directory.remove()
        directory.release()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, *, shared: bool) -> bool:
    try:
        import fcntl  # noqa: PLC0415 - not there on Windows
    except ImportError:
        raise SettingsError(
            "a spool on disk needs the file locks of Linux or macOS, and this system has none; "
            "choose durability='memory'"
        ) from None
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the locked directory still stands at its path: its last owner may have removed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False
