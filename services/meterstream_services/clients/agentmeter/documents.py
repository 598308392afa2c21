"""What clients of AgentMeter define within a project: meter types, billing records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from starlette.exceptions import HTTPException

from meterstream_services.clients.agentmeter.projects import (
    everything,
    new_id,
    owner_of,
    project_of,
    remember,
    tenants_for,
)
from meterstream_services.clients.agentmeter.values import shown
from meterstream_services.clients.book import Book, Content
from meterstream_services.keys.principal import Principal


@dataclass(frozen=True, slots=True)
class Documents:
    """Documents of one kind. ``label`` is what a person calls one."""

    kind: str
    label: str

    def create(
        self, book: Book, project: str, fields: Content, *, now: int, key: str | None
    ) -> Content:
        """Keep a new one; the one there is where the ``Idempotency-Key`` was used before."""
        name = new_id(f"{self.kind}/{project}", key)
        times = {"created_at": shown(now), "updated_at": shown(now)}
        made = {"id": name, "project_id": project} | fields | times
        remember(book, self.kind, name, project)
        kept = book.change(owner_of(project), self.kind, name, lambda before: before or made)
        assert kept is not None
        return kept

    def find(self, book: Book, principal: Principal, name: str) -> Content:
        """One of a project that the key is for. Raises 404."""
        project = project_of(book, principal, self.kind, name)
        found = None if project is None else book.get(owner_of(project), self.kind, name)
        if found is None:
            raise self._missing()
        return found

    def listed(self, book: Book, principal: Principal, project: str | None) -> Iterator[Content]:
        """Those of a project, or of all projects that the key is for."""
        if project is None and principal.tenants is None:
            return everything(book, None, self.kind)
        tenants = tenants_for(book, principal, project)
        return (each for one in tenants for each in everything(book, owner_of(one), self.kind))

    def update(
        self, book: Book, principal: Principal, name: str, fields: Content, *, now: int
    ) -> Content:
        """Replace some fields. Raises 404."""
        updated = shown(now)
        return self._change(
            book,
            principal,
            name,
            lambda before: None if before is None else before | fields | {"updated_at": updated},
        )

    def delete(self, book: Book, principal: Principal, name: str) -> None:
        """Forget one; what was metered of it stays. Raises 404."""
        project = project_of(book, principal, self.kind, name)
        if project is None or book.get(owner_of(project), self.kind, name) is None:
            raise self._missing()
        book.change(owner_of(project), self.kind, name, lambda _: None)

    def _change(
        self,
        book: Book,
        principal: Principal,
        name: str,
        change: Callable[[Content | None], Content | None],
    ) -> Content:
        project = project_of(book, principal, self.kind, name)
        made = None if project is None else book.change(owner_of(project), self.kind, name, change)
        if made is None:
            raise self._missing()
        return made

    def _missing(self) -> HTTPException:
        return HTTPException(404, f"there is no such {self.label}, or this key is not for it")
