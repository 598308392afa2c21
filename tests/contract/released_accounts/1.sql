-- A file of accounts of version 1, as its program wrote it: what SQLite's .dump tells of it, and the
-- two numbers of its header. There was no version 1 in PostgreSQL.
PRAGMA application_id = 1836278115;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE account (
    id             TEXT PRIMARY KEY,
    name           TEXT NOT NULL,
    zone           TEXT NOT NULL,
    billing_anchor INTEGER NOT NULL CHECK (billing_anchor BETWEEN 1 AND 31),
    labels         TEXT NOT NULL,  -- JSON: sorted pairs of texts
    status         TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO "account" VALUES('acme','Acme GmbH & Söhne','Europe/Berlin',31,'[["crm", "7"], ["plan", "pro"]]','active');
INSERT INTO "account" VALUES('bolt','','UTC',1,'[]','suspended');
INSERT INTO "account" VALUES('idle','Nobody''s','UTC',1,'[]','active');
CREATE TABLE tenancy (
    tenant  TEXT NOT NULL,
    start   INTEGER NOT NULL,
    account TEXT REFERENCES account (id),
    PRIMARY KEY (tenant, start)
) WITHOUT ROWID;
INSERT INTO "tenancy" VALUES('rocket',1772323200000000,NULL);
INSERT INTO "tenancy" VALUES('rocket',0,'acme');
INSERT INTO "tenancy" VALUES('🛰',1767225600000000,'acme');
INSERT INTO "tenancy" VALUES('rocket',1767225600000000,'bolt');
CREATE INDEX tenancy_by_account ON tenancy (account, tenant);
COMMIT;
