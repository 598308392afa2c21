"""While it serves, a process searches for cycles of garbage seldom; before and after as ever."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from meterstream_services.http.front_limits import FrontLimits
from meterstream_services.http.server import serve

if TYPE_CHECKING:
    import pytest
    from starlette.types import Receive, Scope, Send


def test_what_is_there_at_the_start_is_left_alone_until_the_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Frozen, and a threshold far above Python's, while the application runs; then undone."""
    before = gc.get_threshold()
    seen: list[tuple[int, tuple[int, int, int]]] = []

    async def failing(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        seen.append((gc.get_freeze_count(), gc.get_threshold()))
        await send({"type": "lifespan.startup.failed"})

    status = serve(failing, host="127.0.0.1", port=0, limits=FrontLimits())

    assert status == 1
    assert "could not start" in capsys.readouterr().err
    [(frozen, threshold)] = seen
    assert frozen > 10_000
    assert threshold[0] >= 20 * before[0]
    assert threshold[1:] == before[1:]
    assert gc.get_freeze_count() == 0
    assert gc.get_threshold() == before
