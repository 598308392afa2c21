"""Settings of a client, and a client's settings from ``AGENTMETER_*`` variables."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from meterstream.compat.agentmeter.errors import AgentMeterError
from meterstream.compat.agentmeter.money import Number

DEFAULT_BASE_URL: Final = "https://api.agentmeter.money"
TIMEOUT_SECONDS: Final = 10.0
_NAMES: Final = ("api_key", "project_id", "agent_id", "user_id", "base_url")
_PRICES: Final = ("api_request_unit_price", "input_token_price", "output_token_price")


@dataclass(kw_only=True)
class AgentMeterConfig:
    """Who is charged and at which prices, for ``AgentMeterClient(**config.dict())``.

    ``api_key`` and ``base_url`` are taken for the sake of the documented calls: events go where
    ``METERSTREAM_*`` says, and no key is sent. ``timeout`` is how many seconds a ``record_`` call
    waits for its confirmation. Prices are 0 unless given: none is made up. ``max_retries`` and
    ``batch_size`` change nothing: the SDK repeats and batches by itself.
    """

    api_key: str = field(default="", repr=False)
    project_id: str | None = None
    agent_id: str | None = None
    user_id: str | None = None
    base_url: str = DEFAULT_BASE_URL
    api_request_unit_price: Number = 0
    input_token_price: Number = 0
    output_token_price: Number = 0
    timeout: float = TIMEOUT_SECONDS
    max_retries: int | None = None
    batch_size: int | None = None

    def dict(self) -> dict[str, Any]:
        """All settings by name, the key among them."""
        return asdict(self)


def config_from_env() -> AgentMeterConfig:
    """The settings of ``AGENTMETER_API_KEY``, ``_PROJECT_ID``, ``_AGENT_ID``, ``_USER_ID``,
    ``_BASE_URL``, ``_TIMEOUT`` and the prices ``_API_REQUEST_UNIT_PRICE``,
    ``_INPUT_TOKEN_PRICE``, ``_OUTPUT_TOKEN_PRICE``. What is unset or empty keeps its default.

    Raises `AgentMeterError` for a timeout that is no positive number.
    """  # noqa: D205 - the list of names is one sentence
    given = {
        name: value
        for name in (*_NAMES, *_PRICES, "timeout")
        if (value := os.environ.get(f"AGENTMETER_{name.upper()}"))
    }
    timeout = given.pop("timeout", None)
    settings: dict[str, Any] = dict(given)
    if timeout is not None:
        try:
            settings["timeout"] = float(timeout)
        except ValueError:
            settings["timeout"] = 0.0
        if not settings["timeout"] > 0:
            raise AgentMeterError(f"AGENTMETER_TIMEOUT: {timeout!r:.40} is no number of seconds")
    return AgentMeterConfig(**settings)
