"""Customer ids that speak for a tenant: what meter-lib's lookup answers and its events bring back.

meter-lib sends its events without any credential. The one thing that comes back to the gateway as
it went out is the customer id of the lookup before, which does carry a key. So the id is a text
that says the tenant and the key, with a signature over both::

    mc1_<base64url of KEY-ID NUL TENANT>_<base64url of 16 bytes of HMAC-SHA256>

It has no time of its own: it ends with the key that it was issued under. The secret is kept beside
the keys. Whoever reads such an id can send events for that one tenant, and nothing else.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Final

TEXT_MAX: Final = 512
"""Longer texts are no customer ids of ours; tenants have at most 128 bytes."""
_PREFIX: Final = "mc1_"
_SIGNATURE_BYTES: Final = 16
_PURPOSE: Final = b"meterstream customer id 1\0"


class Signer:
    """Signs and verifies with one secret."""

    def __init__(self, secret: bytes) -> None:
        self._secret: Final = secret

    def sign(self, tenant: str, key_id: str) -> str:
        """The customer id for a tenant, issued under a key."""
        payload = f"{key_id}\0{tenant}".encode()
        return f"{_PREFIX}{_text(payload)}_{_text(self._signature(payload))}"

    def verify(self, text: str) -> tuple[str, str] | None:
        """The tenant and the key's id that a customer id names; None where it is not ours.

        Whether that key still lives is for the caller to ask; `Keys.signed` does.
        """
        if len(text) > TEXT_MAX or not text.startswith(_PREFIX) or not text.isascii():
            return None
        # The last 22 characters are the signature: base64url has "_" among its letters.
        body, signature = text[len(_PREFIX) : -23], text[-22:]
        if text[-23:-22] != "_":
            return None
        try:
            payload, shown = _bytes(body), _bytes(signature)
        except (binascii.Error, ValueError):
            return None
        if not hmac.compare_digest(self._signature(payload), shown):
            return None
        key_id, _, tenant = payload.decode().partition("\0")
        return tenant, key_id

    def _signature(self, payload: bytes) -> bytes:
        whole = hmac.new(self._secret, _PURPOSE + payload, hashlib.sha256).digest()
        return whole[:_SIGNATURE_BYTES]


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
