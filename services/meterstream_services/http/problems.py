"""Errors as RFC 9457 problem documents: one shape for everything that goes wrong.

``type`` is a stable name to branch on, ``title`` the same for every occurrence, ``detail`` one
sentence about this one, ``errors`` the single fields where there are any.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from meterstream_aggregator.civil import InvalidQuestion
from meterstream_aggregator.errors import StoreError, StoreUnavailable, UnknownMeter
from meterstream_services.accounts.errors import (
    AccountsError,
    AccountsUnavailable,
    FeedExpired,
    InvalidChanges,
    NotEditable,
    PreconditionFailed,
)
from meterstream_services.clients.book import BookFull, BookUnavailable, EntryTooLarge

MEDIA_TYPE: Final = "application/problem+json"
RETRY_SECONDS: Final = 2
"""What Retry-After asks for while a store cannot be read."""

_log: Final = logging.getLogger("meterstream.http")


class Problem(HTTPException):
    """An answer that is an error. ``name`` becomes its ``type``; ``fields`` are added to it."""

    def __init__(
        self,
        status: int,
        name: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **fields: object,
    ) -> None:
        super().__init__(status, detail, headers)
        self.name = name
        self.fields = fields


class FieldError(BaseModel):
    """What is wrong with one field."""

    field: str
    reason: str


class ProblemDocument(BaseModel):
    """An error, as RFC 9457 has it."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "example": {
                "type": "urn:meterstream:problem:unknown-meter",
                "title": "Unknown meter",
                "status": 404,
                "detail": "no meter is called 'api'; the catalogue has: api.requests",
            }
        },
    )

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError] = Field(default_factory=list[FieldError])


def problem_response(problem: Problem) -> Response:
    """The answer that a problem is."""
    name = problem.name
    content: dict[str, Any] = {
        "type": f"urn:meterstream:problem:{name}",
        "title": name.replace("-", " ").capitalize(),
        "status": problem.status_code,
        "detail": problem.detail,
        **problem.fields,
    }
    # ASCII only: what a caller sent comes back escaped, whatever it was.
    body = json.dumps(content, ensure_ascii=True, default=str).encode()
    return Response(body, problem.status_code, dict(problem.headers or {}), media_type=MEDIA_TYPE)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """These statuses as problems, for a route's ``responses``."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
        }
        for status in statuses
    }


def install_problems(app: FastAPI) -> None:
    """Make every error of an application a problem document."""
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(RequestValidationError, _answer_validation)
    app.add_exception_handler(ClientDisconnect, _answer_nobody)
    for kind in (
        InvalidQuestion,
        UnknownMeter,
        StoreError,
        AccountsError,
        BookFull,
        BookUnavailable,
    ):
        app.add_exception_handler(kind, _answer_known)
    app.add_exception_handler(Exception, _answer_unknown)


def problem_of(error: Exception) -> Problem:  # noqa: PLR0911 - one line a kind of error
    """What a caller is told of an error of the packages beneath."""
    match error:
        case InvalidQuestion():
            errors = [{"field": error.field, "reason": error.problem}]
            return Problem(422, "invalid-question", str(error), errors=errors)
        case UnknownMeter():
            return Problem(404, "unknown-meter", str(error))
        case StoreUnavailable():
            return _unavailable("store-unavailable", error)
        case StoreError():
            return Problem(500, "store-unfit", str(error))
        case AccountsError():
            return _of_accounts(error)
        case EntryTooLarge():
            return Problem(413, "entry-too-large", str(error))
        case BookFull():
            return Problem(507, "book-full", str(error))
        case BookUnavailable():
            return _unavailable("book-unavailable", error)
        case _:
            raise error


def _of_accounts(error: AccountsError) -> Problem:
    match error:
        case AccountsUnavailable():
            return _unavailable("accounts-unavailable", error)
        case InvalidChanges():
            errors = [
                {"field": flaw.field, "value": flaw.value[:256], "reason": flaw.reason}
                for flaw in error.flaws
            ]
            return Problem(422, "invalid-change", str(error), errors=errors)
        case PreconditionFailed():
            return Problem(412, "precondition-failed", str(error))
        case FeedExpired():
            return Problem(410, "changes-expired", str(error))
        case NotEditable():
            return Problem(409, "accounts-kept-elsewhere", str(error))
        case _:
            raise error


def _unavailable(name: str, error: Exception) -> Problem:
    return Problem(503, name, str(error), headers={"retry-after": str(RETRY_SECONDS)})


async def _answer_http(request: Request, error: Exception) -> Response:
    if isinstance(error, Problem):
        return problem_response(error)
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    detail = error.detail
    if status is HTTPStatus.NOT_FOUND:
        detail = (
            f"there is nothing at {request.url.path[:200]!r}; /openapi.json lists what there is"
        )
    elif status is HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "another method")
        detail = f"{request.method[:20]!r} does not apply here; use {allowed}"
    name = status.phrase.lower().replace(" ", "-")
    return problem_response(Problem(status, name, detail, headers=error.headers))


async def _answer_nobody(_: Request, __: Exception) -> Response:
    # Who leaves before the end of the body reads no answer, and is no fault to be logged.
    return Response(status_code=400)


async def _answer_validation(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = [
        {"field": _field(item["loc"]), "reason": _reason(item)} for item in error.errors()[:100]
    ]
    first = errors[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    detail = f"{first['field']}: {first['reason']}{more}"
    return problem_response(Problem(422, "invalid-request", detail, errors=errors))


def _field(location: tuple[int | str, ...]) -> str:
    parts = location[1:] if len(location) > 1 else location
    return ".".join(str(part)[:64] for part in parts)


def _reason(item: Mapping[str, Any]) -> str:
    match item["type"]:
        case "missing":
            return "is missing; pass it"
        case "model_attributes_type" if item["loc"] == ("body",):
            return "is no JSON object; send one, with Content-Type: application/json"
        case "extra_forbidden":
            return "is not known here; mend its spelling or leave it out"
        case _:
            message = str(item["msg"])
            return message[:1].lower() + message[1:]


async def _answer_known(request: Request, error: Exception) -> Response:
    problem = problem_of(error)
    if problem.status_code >= 500:
        _log.warning("%s %s: %s", request.method, request.url.path, error)
    return problem_response(problem)


async def _answer_unknown(_: Request, __: Exception) -> Response:
    # Starlette raises the error again after this answer, so that the server logs its traceback.
    detail = "something went wrong here; the service's log has the details"
    return problem_response(Problem(500, "internal-error", detail))
