"""Projects of AgentMeter. A project is a tenant: whoever may use the tenant has the project.

Everything that belongs to a project is kept in the book in its name, so that all keys that are for
it see the same, and others nothing. An id that the service made (of a meter type, a billing record)
is found by an index, whose entries say only whose it is.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Final
from zoneinfo import ZoneInfo

from starlette.exceptions import HTTPException

from meterstream_schemas.checks import check_text
from meterstream_schemas.events import TENANT_BYTES_MAX
from meterstream_services.clients.book import Book, Content
from meterstream_services.http.guarding import foreign_tenant
from meterstream_services.keys.principal import Principal

PROJECT: Final = "agentmeter.project"
LISTED_MAX: Final = 10_000
"""Projects and meter types in one list."""
_INDEX: Final = "agentmeter.index"
_PAGE: Final = 1000
_NAMESPACE: Final = uuid.UUID("6f1b3d0c-6d0c-4c53-9f4e-6f7a2f0b9d11")


def owner_of(project: str) -> str:
    """In whose name the book keeps what belongs to a project."""
    return f"tenant:{project}"


def default_project(principal: Principal) -> str | None:
    """The project of a request that names none: the key's tenant, or one of the key's own."""
    if principal.sole_tenant is not None:
        return principal.sole_tenant
    if principal.tenants is None and principal.digest:
        return f"agentmeter-{principal.digest}"
    return None


def named_project(principal: Principal, value: object, *, field: str = "project_id") -> str:
    """The project that a request names, or its default. Raises 403, 422 and `InvalidEvent`."""
    if value is None or value == "":
        found = default_project(principal)
        if found is None:
            raise HTTPException(422, f"{field}: is missing; pass it")
        return found
    project = check_text(value, field=field, bytes_max=TENANT_BYTES_MAX)
    if not principal.may_use(project):
        raise foreign_tenant(project)
    return project


def find_project(book: Book, principal: Principal, project: str) -> Content:
    """A project that was created. Raises 404, also where the key is not for it."""
    is_name = 0 < len(project.encode(errors="replace")) <= TENANT_BYTES_MAX
    found = None
    if is_name and project.isprintable() and principal.may_use(project):
        found = book.get(owner_of(project), PROJECT, project)
    if found is None:
        raise HTTPException(404, "there is no such project, or this key is not for it")
    return found


def settings_of(book: Book, project: str) -> Content:
    """What is set for a project, which need not have been created."""
    return book.get(owner_of(project), PROJECT, project) or {}


def zone_of(settings: Content) -> ZoneInfo:
    """In which zone the project's clients write times without one."""
    return ZoneInfo(settings.get("timezone") or "UTC")


def visible_projects(book: Book, principal: Principal) -> list[Content]:
    """The projects that were created and that the key is for, by id; at most `LISTED_MAX`."""
    if principal.tenants is not None:
        found = [
            book.get(owner_of(project), PROJECT, project)
            for project in sorted(principal.tenants)[:LISTED_MAX]
        ]
        return [each for each in found if each is not None]
    return list(everything(book, None, PROJECT))


def tenants_for(book: Book, principal: Principal, project: str | None) -> list[str]:
    """Whose events a question is about: one project, else all that the key can know of."""
    if project is not None:
        return [named_project(principal, project)]
    if principal.tenants is not None:
        return sorted(principal.tenants)
    found = [str(each["id"]) for each in visible_projects(book, principal)]
    own = default_project(principal)
    return list(dict.fromkeys([*found, *([own] if own else [])]))


def everything(book: Book, owner: str | None, kind: str) -> Iterator[Content]:
    """The entries of a kind by name, at most `LISTED_MAX`."""
    after, told = "", 0
    while told < LISTED_MAX:
        page = book.all(owner, kind, after=after, limit=_PAGE)
        for _, name, content in page:
            yield content
            after, told = name, told + 1
        if len(page) < _PAGE:
            return


def new_id(owner: str, key: str | None) -> str:
    """An id for something new; the same one for the same ``Idempotency-Key``."""
    if key is None:
        return str(uuid.uuid4())
    return str(uuid.uuid5(_NAMESPACE, f"{owner}\n{key[:256]}"))


def remember(book: Book, kind: str, name: str, project: str) -> None:
    """Note whose an id is."""
    book.change("*", _index_of(kind, name), name, lambda _: {"project": project})


def project_of(book: Book, principal: Principal, kind: str, name: str) -> str | None:
    """Whose an id is; None where nobody's, or one's that the key is not for."""
    if not 0 < len(name) <= 64 or not name.isascii() or not name.isprintable():
        return None
    found = book.get("*", _index_of(kind, name), name)
    if found is None or not principal.may_use(found["project"]):
        return None
    return str(found["project"])


def _index_of(kind: str, name: str) -> str:
    # Parts of it: a book bounds what one owner keeps of a kind.
    return f"{_INDEX}.{kind}.{name[:2].lower()}"
