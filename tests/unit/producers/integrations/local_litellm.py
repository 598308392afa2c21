"""LiteLLM as tests import it: with the price list that it brings, since importing fetches one."""

from __future__ import annotations

import os

import pytest

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import litellm

from meterstream.integrations import litellm as hook

__all__ = ["QUIET", "forget_loggers", "hook", "litellm"]

# Its own types make pydantic warn when the first of them is used; nothing of ours does.
QUIET = pytest.mark.filterwarnings("ignore:Items? .* (is|are) using the .ReadOnly. qualifier")


def forget_loggers() -> None:
    """Take every logger out of the lists that LiteLLM copies them to."""
    litellm.logging_callback_manager._reset_all_callbacks()  # type: ignore[no-untyped-call]  # theirs
