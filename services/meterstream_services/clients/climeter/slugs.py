"""The tool that a question about a wallet names, as CLIMeter's client writes it."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import unquote

from fastapi import Depends, Request
from starlette.exceptions import HTTPException

from meterstream_services.clients.climeter.wallets import TOOL
from meterstream_services.http.parts import PartsOf
from meterstream_services.keys.principal import ALL

NAME_MAX: Final = 128


def asked_tool(request: Request, parts: PartsOf) -> str:
    """The tool of a question; empty where it names none. A dependency. Blocks. Raises 422.

    The client writes the slug behind ``tool=`` as it is, so ``+`` and ``&`` are letters of it. Who
    encodes it as forms are means the other reading; that one holds where only it is a tool's name.
    """
    query = request.scope["query_string"].decode("latin-1")
    as_form = request.query_params.get("tool", "")
    as_sent = unquote(query.removeprefix("tool=")) if query.startswith("tool=") else as_form
    for tool in (as_sent, as_form):
        if len(tool) > NAME_MAX:
            raise HTTPException(422, f"tool: is longer than {NAME_MAX} characters")
    known = parts.book.get
    if as_form and as_form != as_sent and known(ALL, TOOL, as_sent) is None:
        return as_sent if known(ALL, TOOL, as_form) is None else as_form
    return as_sent


AskedTool = Annotated[str, Depends(asked_tool)]
