"""What options of `meterstream serve` must be, said before anything is started."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from meterstream_services.cli.failures import WRONG_ARGUMENTS, CommandError

_TOPIC: Final = re.compile(r"(?!\.\.?$)[A-Za-z0-9._-]{1,249}")
_HOST: Final = re.compile(
    r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9.])?|\[[0-9A-Fa-f:.]{2,45}\]"
)


def check_topic(topic: str) -> str:
    """The topic. Raises `CommandError` for one that Kafka has no name for."""
    if not _TOPIC.fullmatch(topic):
        raise _wrong(
            f"--topic {topic[:80]}: Kafka takes 1 to 249 letters, digits, dots, underscores and "
            "hyphens; write such as meterstream.events"
        )
    return topic


def check_registry(url: str | None) -> str | None:
    """The URL. Raises `CommandError` for one that cannot be asked."""
    if url is not None and not _is_url(url):
        raise _wrong(
            f"--registry-url {url[:80]}: is no URL; write such as http://registry:8081, or leave "
            "it out for the schemas that come along"
        )
    return url


def check_spool(spool: Path | None) -> Path | None:
    """The directory. Raises `CommandError` for the empty text, which would be where one is."""
    if spool == Path():
        raise _wrong("--spool names no directory; write its path, or --data DIR for DIR/spool")
    return spool


def check_directories(**places: object) -> None:
    """That files may be written where they are named. Raises `CommandError`.

    No directory is made for a name that may be misspelt: the service would begin with no keys and
    no accounts in it. ``places`` by option; what is no path is no matter of ours.
    """
    for option, place in places.items():
        if isinstance(place, Path) and not place.parent.is_dir():
            raise CommandError(
                f"{place.parent}: there is no such directory for --{option}; make it (mkdir), or "
                "name the one that is meant"
            )


def check_hosts(names: list[str] | None) -> list[str] | None:
    """Names of hosts. Raises `CommandError` for one that no request can have."""
    for name in names or ():
        if not _HOST.fullmatch(name):
            raise _wrong(
                f"--known-host {name[:80]}: is no name of a host; write it as it stands in "
                "clients' URLs, without scheme and port (xn--… for other alphabets)"
            )
    return names


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _wrong(sentence: str) -> CommandError:
    return CommandError(sentence, status=WRONG_ARGUMENTS)
