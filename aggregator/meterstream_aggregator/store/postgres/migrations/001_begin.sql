-- The PostgreSQL store, version 1. Times are microseconds UTC unless a name says otherwise. Names
-- and meanings are those of the SQLite store (../../schema.sql); what differs is said here.
--
-- Texts compare byte by byte (COLLATE "C"), as everywhere else. Texts that a stranger may have put a
-- NUL into, which PostgreSQL's text cannot hold, are UTF-8 in bytea. Amounts are NUMERIC:
-- quantity * 10^-scale, exact at any size.

-- One row: what this store belongs to. "identity" is random, given when the store was made.
CREATE TABLE binding (
    "only" integer PRIMARY KEY CHECK ("only" = 1),
    identity text NOT NULL,
    topic text,
    topic_id text,
    partitions integer,
    catalogue text
);
INSERT INTO binding ("only", identity) VALUES (1, replace(gen_random_uuid()::text, '-', ''));

CREATE TABLE catalogue_version (
    version text COLLATE "C" PRIMARY KEY,
    catalogue text NOT NULL
);

CREATE TABLE "position" (
    partition integer PRIMARY KEY,
    epoch bigint NOT NULL,
    owner text NOT NULL,
    next_offset bigint,
    appended bigint NOT NULL,
    counted bigint NOT NULL,
    duplicates bigint NOT NULL,
    refused bigint NOT NULL
);

CREATE TABLE reading (
    partition integer NOT NULL,
    first_offset bigint NOT NULL,
    version text NOT NULL,
    PRIMARY KEY (partition, first_offset)
);

CREATE TABLE series (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    meter text COLLATE "C" NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    groups text COLLATE "C" NOT NULL,
    partition integer NOT NULL,
    version text COLLATE "C" NOT NULL,
    UNIQUE (version, tenant, partition, groups)
);
CREATE INDEX series_overflow ON series (version) WHERE substr(groups, 1, 13) = '["(overflow)"';

CREATE TABLE usage (
    block integer NOT NULL,
    series bigint NOT NULL,
    start integer NOT NULL,
    arrival bigint NOT NULL,
    scale smallint NOT NULL,
    events bigint NOT NULL,
    quantity numeric NOT NULL,
    PRIMARY KEY (block, series, start, arrival, scale)
);

-- Where usage has rows that came late.
CREATE TABLE late (
    series bigint NOT NULL,
    arrival bigint NOT NULL,
    block integer NOT NULL,
    start integer NOT NULL,
    scale smallint NOT NULL,
    PRIMARY KEY (series, arrival, block, start, scale)
);

CREATE TABLE item (
    series bigint NOT NULL,
    start integer NOT NULL,
    item bytea NOT NULL,
    arrival bigint NOT NULL,
    "time" bigint NOT NULL,
    sequence bigint NOT NULL,
    producer text COLLATE "C" NOT NULL,
    "offset" bigint NOT NULL,
    quantity numeric NOT NULL,
    scale smallint NOT NULL,
    PRIMARY KEY (series, start, item, arrival)
);

CREATE TABLE place (
    partition integer NOT NULL,
    hour integer NOT NULL,
    segment integer NOT NULL,
    first bigint NOT NULL,
    last bigint NOT NULL,
    events bigint NOT NULL,
    PRIMARY KEY (partition, hour, segment)
);

CREATE TABLE presence (
    partition integer NOT NULL,
    segment integer NOT NULL,
    producer text COLLATE "C" NOT NULL,
    first bigint NOT NULL,
    last bigint NOT NULL,
    events bigint NOT NULL,
    PRIMARY KEY (partition, segment, producer)
);

CREATE TABLE producer (
    partition integer NOT NULL,
    producer text COLLATE "C" NOT NULL,
    upto bytea NOT NULL,
    irregular text,
    closed boolean NOT NULL,
    counted bigint NOT NULL,
    duplicates bigint NOT NULL,
    refused bigint NOT NULL,
    last_append bigint NOT NULL,
    PRIMARY KEY (producer, partition)
);

CREATE TABLE refused_number (
    partition integer NOT NULL,
    producer text COLLATE "C" NOT NULL,
    lane integer NOT NULL,
    sequence bigint NOT NULL,
    PRIMARY KEY (producer, partition, lane, sequence)
);

CREATE TABLE caller_key (
    partition integer NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    content bytea NOT NULL,
    append_time bigint NOT NULL,
    state integer NOT NULL,
    "time" bigint NOT NULL,
    PRIMARY KEY (partition, tenant, key)
);
CREATE INDEX caller_key_age ON caller_key (partition, append_time);
CREATE INDEX caller_key_awaited ON caller_key (partition) WHERE state = 2;

CREATE TABLE session (
    partition integer NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL,
    session text COLLATE "C" NOT NULL,
    start bigint,
    "end" bigint,
    last_sign bigint NOT NULL,
    last_append bigint NOT NULL,
    deadline bigint,
    subject bytea,
    attributes text,
    claims text,
    PRIMARY KEY (tenant, type, session, partition)
);
CREATE INDEX session_deadline ON session (partition, deadline) WHERE deadline IS NOT NULL;
CREATE INDEX session_not_plain ON session (tenant, type, session)
    WHERE deadline IS NULL
        AND (claims IS NOT NULL OR "end" IS NULL OR "end" - start > 86400000000);

CREATE TABLE subject (
    partition integer NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL,
    subject bytea NOT NULL,
    facts text NOT NULL,
    last_append bigint NOT NULL,
    deadline bigint,
    PRIMARY KEY (tenant, type, subject, partition)
);
CREATE INDEX subject_deadline ON subject (partition, deadline) WHERE deadline IS NOT NULL;

-- "detail", "tenant", "type" and "producer" may hold anything a stranger sent.
CREATE TABLE dead_letter (
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    append_time bigint NOT NULL,
    reason text NOT NULL,
    detail bytea NOT NULL,
    tenant bytea,
    type bytea,
    producer bytea NOT NULL,
    lane integer NOT NULL,
    sequence bigint NOT NULL,
    PRIMARY KEY (partition, "offset")
);

CREATE TABLE threshold_total (
    threshold text COLLATE "C" NOT NULL,
    start bigint NOT NULL,
    who text COLLATE "C" NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (threshold, start, who)
);

CREATE TABLE threshold_fired (
    threshold text COLLATE "C" NOT NULL,
    start bigint NOT NULL,
    who text COLLATE "C" NOT NULL,
    at text COLLATE "C" NOT NULL,
    value text NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    log_time bigint NOT NULL,
    PRIMARY KEY (threshold, start, who, at)
);

CREATE TABLE threshold_waiting (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    threshold text COLLATE "C" NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    "window" bigint NOT NULL,
    start bigint NOT NULL,
    "end" bigint NOT NULL,
    value text NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    log_time bigint NOT NULL
);

CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    partition integer NOT NULL,
    topic text NOT NULL,
    key bytea NOT NULL,
    value bytea,
    headers text NOT NULL
);
