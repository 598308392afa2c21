-- Accounts, and to which of them a tenant belonged when. Times: microseconds since 1970 UTC.
CREATE TABLE account (
    id             TEXT PRIMARY KEY,
    name           TEXT NOT NULL,
    zone           TEXT NOT NULL,
    billing_anchor INTEGER NOT NULL CHECK (billing_anchor BETWEEN 1 AND 31),
    labels         TEXT NOT NULL,  -- JSON: sorted pairs of texts
    status         TEXT NOT NULL
) WITHOUT ROWID;

-- Each row holds from its start until the tenant's next row. A NULL account ends a mapping.
CREATE TABLE tenancy (
    tenant  TEXT NOT NULL,
    start   INTEGER NOT NULL,
    account TEXT REFERENCES account (id),
    PRIMARY KEY (tenant, start)
) WITHOUT ROWID;

CREATE INDEX tenancy_by_account ON tenancy (account, tenant);
