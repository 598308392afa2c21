"""Where no keys were made: who may listen all the same, and what is said of it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from meterstream_aggregator.store.address import StoreAddress
from meterstream_services.keys.kept import open_keyring
from meterstream_services.keys.port import KeysUnavailable

_log: Final = logging.getLogger("meterstream.keys")


def why_not(host: str, keys: StoreAddress | None) -> str | None:
    """Why a service must not listen here, as a sentence; None where it may.

    Keys that cannot be read are no reason: until they can be, every request is answered 503.
    """
    if host == "127.0.0.1":
        return None
    # Imported here: it brings the whole of HTTP, which `up` needs for nothing else.
    from meterstream_services.http.limits import is_loopback  # noqa: PLC0415 - as above

    if is_loopback(host):
        return None
    if keys is not None:
        keyring = open_keyring(keys)
        try:
            if keyring.told().generation > 0:
                return None
        except KeysUnavailable as problem:
            _log.warning("keys cannot be read yet, and nobody is let in before: %s", problem)
            return None
        finally:
            keyring.close()
    where = f" --keys {keys}" if isinstance(keys, Path) else " --keys URL"
    return (
        f"{host} can be reached from other machines, and no API key was made yet; make one with "
        f"`meterstream keys create --scope admin --all-tenants{where}`, or listen on 127.0.0.1"
    )


def told(keys: Path, data: Path) -> str:
    """Whether keys are asked for, in the words of `up`."""
    keyring = open_keyring(keys)
    try:
        made = keyring.told().generation > 0
    except KeysUnavailable as problem:
        return f"cannot be read, so nobody is let in: {problem}"
    finally:
        keyring.close()
    if made:
        return f"demanded   (meterstream keys list --data {data})"
    return "none made: anybody on this machine may do everything"
