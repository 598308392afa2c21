"""Which tenant a StripeMeter customer is, and which subject a resource: names of any length.

The vendor's customer references have up to 255 characters, a tenant 128 bytes. A longer one is
the tenant ``sha256:`` and 64 digits, on the way in and in every question, and the reference itself
is kept with its events as the attribute `REFERENCE`.
"""

from __future__ import annotations

from typing import Final

from meterstream_schemas.events import ID_BYTES_MAX, TENANT_BYTES_MAX
from meterstream_services.clients.metadata import as_id

REFERENCE: Final = "customer_ref"


def tenant_of(customer: str) -> str:
    """The tenant of a customer: its reference, or the digest of one that is too long for that."""
    return as_id(customer, bytes_max=TENANT_BYTES_MAX)


def subject_of(resource: str) -> str:
    """The subject of a resource, likewise."""
    return as_id(resource, bytes_max=ID_BYTES_MAX)
