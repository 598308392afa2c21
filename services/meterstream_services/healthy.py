"""Asks a process of this machine whether it is ready: for a container's health check.

::

    python -m meterstream_services.healthy [http://127.0.0.1:9464/readyz]

Prints the answer; the exit status is 0 for ready, 1 for anything else. Imports next to nothing, for
it is started every few seconds. METERSTREAM_HEALTH_URL names another address.
"""

from __future__ import annotations

import http.client
import os
import sys
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

DEFAULT_URL: Final = "http://127.0.0.1:9464/readyz"
_TIMEOUT_SECONDS: Final = 5.0


def main(arguments: Sequence[str]) -> int:
    """Ask once. Blocks for at most some seconds."""
    url = arguments[0] if arguments else os.environ.get("METERSTREAM_HEALTH_URL", DEFAULT_URL)
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        sys.stderr.write(f"{url} is no address to ask; write http://127.0.0.1:PORT/readyz\n")
        return 1
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", parts.path or "/")
        answer = connection.getresponse()
        told = answer.read(2_000).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException) as problem:
        sys.stderr.write(f"{url} does not answer: {problem}\n")
        return 1
    finally:
        connection.close()
    sys.stdout.write(f"{told}\n")
    return 0 if answer.status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
