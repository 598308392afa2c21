"""Token counts of a model's answer, where no extractor is given: the two usual spellings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

from meterstream.compat.agentmeter.errors import AgentMeterValidationError

_SPELLINGS: Final = (
    ("input_tokens", "output_tokens"),
    ("prompt_tokens", "completion_tokens"),
    ("tokens_in", "tokens_out"),
)
_HOLDERS: Final = ("usage", "usage_metadata")


def found_tokens(result: object) -> tuple[int, int]:
    """Tokens in and out, told by the answer or its ``usage``.

    Raises `AgentMeterValidationError` where neither tells any.
    """
    for holder in (*(_field(result, name) for name in _HOLDERS), result):
        for names in _SPELLINGS:
            taken, given = (_field(holder, name) for name in names)
            if isinstance(taken, int) or isinstance(given, int):
                return cast("int", taken or 0), cast("int", given or 0)
    raise AgentMeterValidationError(
        f"{type(result).__name__} tells no token counts; pass a tokens_extractor"
    )


def _field(holder: object, name: str) -> object:
    if isinstance(holder, Mapping):
        return cast("Mapping[str, object]", holder).get(name)
    return getattr(holder, name, None)
