"""A word about events that no meter reads: HTTP answers, and nothing is counted."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from meterstream_services.cli import output
from meterstream_services.wording import counted

if TYPE_CHECKING:
    from meterstream_services.client import Api

LOOKED_AT: Final = 1000
"""Most dead letters that are looked at: this is a hint, `meterstream deadletters list` a list."""
_TYPES_SHOWN: Final = 5


def unread(api: Api) -> str | None:
    """What to tell about types that were refused and that still no meter reads; None for nothing.

    None also when the API cannot say.
    """
    from meterstream_services.client import ClientError  # noqa: PLC0415 - loaded by its command

    asked = [("reason", "unknown_type"), ("limit", str(LOOKED_AT))]
    try:
        letters = api.get("/v1/deadletters", asked)["deadletters"]
        read = {meter.get("type") for meter in api.get("/v1/meters")["meters"]} if letters else ()
    except ClientError:
        return None
    types = Counter(letter["type"] for letter in letters if letter["type"] not in read)
    if not types:
        return None
    least = "at least " if len(letters) == LOOKED_AT else ""
    names = [output.shown(name) for name, _ in types.most_common(_TYPES_SHOWN)]
    names += ["..."] if len(types) > _TYPES_SHOWN else []
    return (
        f"{least}{counted(types.total(), 'event')} of a type that no meter reads: "
        f"{', '.join(names)} (`meterstream deadletters list --reason unknown_type`)"
    )
