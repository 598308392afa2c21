"""TLS of the front: what it begins with, and its certificate read again while it runs."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final


class CertificateUnfit(Exception):
    """The certificate or its key cannot be used; the message says why."""


class Certificate:
    """A certificate with its key on disk, and the TLS that uses it.

    TLS 1.2 is the oldest version that is spoken, 1.2 with forward secrecy and authenticated
    encryption only. Raises `CertificateUnfit`.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate: Final = certificate
        self._key: Final = key
        self.context: Final = _server_context()
        self._load(self.context)

    def reload(self) -> None:
        """Read both files again, for connections to come. Raises `CertificateUnfit`.

        Then the ones before stay in force.
        """
        self._load(_server_context())  # Tried apart: half of a pair must not get into use.
        self._load(self.context)

    def _load(self, context: ssl.SSLContext) -> None:
        try:
            # Without a password, OpenSSL would ask for one on the terminal.
            context.load_cert_chain(self._certificate, self._key, password="")
        except (OSError, ValueError) as problem:  # ssl.SSLError is an OSError.
            told = problem.strerror if isinstance(problem, OSError) else None
            raise CertificateUnfit(
                f"{self._certificate} with {self._key} cannot be used: {told or problem}; both "
                "must be PEM files that belong together, the key without a password"
            ) from problem


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    return context
