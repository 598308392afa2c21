-- Merges, ids in other systems, and what was changed.
ALTER TABLE account ADD COLUMN merged_into TEXT;
ALTER TABLE account ADD COLUMN merged_from BIGINT;

-- An id of another system means one account.
CREATE TABLE external_id (
    system      TEXT NOT NULL,
    external_id TEXT NOT NULL,
    account     TEXT NOT NULL REFERENCES account (id),
    PRIMARY KEY (system, external_id)
);
CREATE INDEX external_id_by_account ON external_id (account, system, external_id);

-- Changes in their order, whole as it was and as it is (JSON).
CREATE TABLE account_change (
    sequence   BIGINT PRIMARY KEY,
    made_at    BIGINT NOT NULL,
    kind       TEXT NOT NULL,
    id         TEXT NOT NULL,
    was        TEXT NOT NULL,
    is_now     TEXT NOT NULL
);
