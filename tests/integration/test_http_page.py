"""The commands of docs/http-api.md against a fresh `up`, as the page says."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from meterstream_schemas.connection import read_connection
from tests.docs.http_page import read, shown
from tests.integration.up_process import running_up
from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.docs.http_page import Shown

pytestmark = pytest.mark.integration
DEMO = Path(__file__).parents[2] / "docs/examples/demo.yaml"
_PLACES = frozenset({"partition", "offset"})


def test_the_page_works_on_a_fresh_up(tmp_path: Path) -> None:
    """What is shown is answered, but for places in the log, which differ with partitions."""
    played = 0

    with running_up(tmp_path / "data", DEMO) as machine:
        connection = read_connection(machine.data)
        assert connection is not None
        with httpx.Client(base_url=connection.url, timeout=30) as client:
            for each in shown():
                if each.method == "GET" and each.answer is not None:
                    # A figure is there once the worker has counted.
                    eventually(partial(is_answered, client, each), timeout_seconds=60)
                else:
                    assert is_answered(client, each), each
                played += 1

    assert played == 9


def is_answered(client: httpx.Client, each: Shown) -> bool:
    """Whether a request of the page succeeds as the page shows."""
    answer = client.request(each.method, each.path, **each.options)
    assert answer.is_success, answer.text
    return each.answer is None or unplaced(read(answer.text)) == unplaced(each.answer)


def unplaced(answer: object) -> object:
    """An answer without places in the log."""
    if isinstance(answer, list):
        return [unplaced(each) for each in answer]
    if isinstance(answer, dict):
        return {name: unplaced(value) for name, value in answer.items() if name not in _PLACES}
    return answer
