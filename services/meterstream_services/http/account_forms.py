"""Accounts as JSON: what comes in, what goes out."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from meterstream_services.accounts.documents import account_json, since_json, spells_json
from meterstream_services.accounts.history import History
from meterstream_services.accounts.model import Account, AccountStatus, SetAccount
from meterstream_services.accounts.port import Directory
from meterstream_services.http.guarding import own_members
from meterstream_services.keys.principal import Principal

__all__ = [
    "ACCOUNT_EXAMPLE",
    "SPELLS_EXAMPLE",
    "AccountDocument",
    "AccountFields",
    "AccountsDocument",
    "HistoryDocument",
    "ImportDocument",
    "MemberDocument",
    "Membership",
    "NewAccount",
    "TenantAccountDocument",
    "account_json",
    "account_seen",
    "history_json",
    "since_json",
]

ACCOUNT_EXAMPLE: Final[dict[str, Any]] = {
    "id": "a1",
    "name": "Acme, Inc.",
    "zone": "Europe/Berlin",
    "billing_anchor": 31,
    "labels": {"plan": "pro"},
    "status": "active",
}
SPELLS_EXAMPLE: Final[list[Any]] = [
    {"account": "a1", "from": None, "to": "2026-03-01T00:00:00+00:00"},
    {"account": "b2", "from": "2026-03-01T00:00:00+00:00", "to": None},
]
IMPORT_EXAMPLE: Final[dict[str, Any]] = {
    "rows": 2,
    "accounts_created": 2,
    "accounts_changed": 0,
    "tenants_changed": 1,
    "unchanged": 0,
    "dry_run": False,
}


def account_seen(account: Account, directory: Directory, principal: Principal) -> dict[str, Any]:
    """An account as it goes out to a key that may see it.

    Not which account took its place, where the key has no tenant there: that is somebody else's.
    """
    document = account_json(account)
    into = account.merged_into
    if (
        into is not None
        and principal.tenants is not None
        and not own_members(principal, into, directory)
    ):
        del document["merged_into"], document["merged_from"]
    return document


class AccountFields(BaseModel):
    """An account without its id. What is left out has its default."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {k: v for k, v in ACCOUNT_EXAMPLE.items() if k != "id"}},
    )

    name: str = ""
    zone: Annotated[str, Field(description="IANA zone in which its days and months run.")] = "UTC"
    billing_anchor: Annotated[
        int,
        Field(ge=1, le=31, strict=True, description="Day on which its billing months begin."),
    ] = 1
    labels: dict[str, str] = Field(default_factory=dict[str, str])
    status: AccountStatus = AccountStatus.ACTIVE

    def change(self, account_id: str) -> SetAccount:
        """The change that makes an account exactly this."""
        return SetAccount(
            account_id,
            name=self.name,
            zone=self.zone,
            billing_anchor=self.billing_anchor,
            labels=tuple(sorted(self.labels.items())),
            status=self.status,
        )


class NewAccount(AccountFields):
    """An account to be made."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": ACCOUNT_EXAMPLE})

    id: str


class AccountDocument(BaseModel):
    """An account."""

    model_config = ConfigDict(json_schema_extra={"example": ACCOUNT_EXAMPLE})

    id: str
    name: str
    zone: str
    billing_anchor: int
    labels: dict[str, str]
    status: AccountStatus
    merged_into: Annotated[
        str | None, Field(description="Only of a merged account: what took its place.")
    ] = None
    merged_from: Annotated[str | None, Field(description="And from when on.")] = None


class AccountsDocument(BaseModel):
    """Accounts by id. `next` goes on where this answer stops."""

    accounts: list[AccountDocument]
    next: str | None


class MemberDocument(BaseModel):
    """The tenants that belong to an account at an instant."""

    model_config = ConfigDict(json_schema_extra={"example": {"account": "a1", "tenants": ["acme"]}})

    account: str
    tenants: list[str]


class Membership(BaseModel):
    """To which account a tenant belongs, and from when."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"account": "b2", "from": "2026-03-01T00:00:00Z"}},
    )

    account: Annotated[str | None, Field(description="Null: to none from then on.")]
    start: Annotated[
        str | None,
        Field(
            alias="from",
            description="ISO 8601 instant; a time without offset is UTC. Without it: for all time, "
            "accepted while nothing else is known of the tenant.",
        ),
    ] = None


class TenantAccountDocument(BaseModel):
    """The account of a tenant at an instant, and the stretch of time in which it is that."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "tenant": "acme",
                "account": ACCOUNT_EXAMPLE,
                "from": "2026-03-01T00:00:00+00:00",
                "to": None,
            }
        }
    )

    tenant: str
    account: AccountDocument
    start: str | None = Field(alias="from", description="Null: ever since.")
    end: str | None = Field(alias="to", description="Null: for good, as far as is known.")


class SpellDocument(BaseModel):
    """A stretch of time in which a tenant belonged to one account, or to none."""

    account: str | None
    start: str | None = Field(alias="from")
    end: str | None = Field(alias="to")


class HistoryDocument(BaseModel):
    """To which accounts a tenant belonged, one after the other."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"tenant": "acme", "history": SPELLS_EXAMPLE}}
    )

    tenant: str
    history: list[SpellDocument]


class ImportDocument(BaseModel):
    """What an import came to."""

    model_config = ConfigDict(json_schema_extra={"example": IMPORT_EXAMPLE})

    rows: int
    accounts_created: int
    accounts_changed: int
    tenants_changed: int
    external_ids_changed: Annotated[int, Field(description="Left out where it is 0.")] = 0
    unchanged: int
    dry_run: bool


def history_json(tenant: str, history: History) -> dict[str, Any]:
    """A history as it goes out."""
    return {"tenant": tenant, "history": spells_json(history)}
