-- The SQLite store, version 2. Times are microseconds UTC unless a name says otherwise.

-- One row: what this store belongs to.
CREATE TABLE binding (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    topic TEXT NOT NULL,
    topic_id TEXT NOT NULL,
    partitions INTEGER NOT NULL,
    catalogue TEXT NOT NULL
);

-- Every catalogue this store was ever counted with.
CREATE TABLE catalogue_version (
    version TEXT PRIMARY KEY,
    catalogue TEXT NOT NULL
) WITHOUT ROWID;

-- How far each partition is folded: the fence and the counters.
CREATE TABLE position (
    partition INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    owner TEXT NOT NULL,
    next_offset INTEGER,
    appended INTEGER NOT NULL,
    counted INTEGER NOT NULL,
    duplicates INTEGER NOT NULL,
    refused INTEGER NOT NULL
);

-- From this offset on a partition was read by this version of the catalogue.
CREATE TABLE reading (
    partition INTEGER NOT NULL,
    first_offset INTEGER NOT NULL,
    version TEXT NOT NULL,
    PRIMARY KEY (partition, first_offset)
) WITHOUT ROWID;

-- One line of figures. "groups" is a JSON array in the meter's group_by order; "version" is that of
-- the meter's definition, its name included. Rows are never deleted.
CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    meter TEXT NOT NULL,
    tenant TEXT NOT NULL,
    groups TEXT NOT NULL,
    partition INTEGER NOT NULL,
    version TEXT NOT NULL,
    UNIQUE (version, tenant, partition, groups)
);
CREATE INDEX series_overflow ON series (version) WHERE substr(groups, 1, 13) = '["(overflow)"';

-- Usage. A block is sixteen windows: rows of one commit lie close together, and so do the rows that
-- one question reads. "start" is in minutes since 1970; "arrival" is 0 for what came in time, else
-- seconds since 1970 (see windows.arrival_of). The amount is
-- (quantity_high * 2^62 + quantity_low) * 10^-scale, 0 <= quantity_low < 2^62: additions stay exact
-- without any reading first.
CREATE TABLE usage (
    block INTEGER NOT NULL,
    series INTEGER NOT NULL,
    start INTEGER NOT NULL,
    arrival INTEGER NOT NULL,
    scale INTEGER NOT NULL,
    events INTEGER NOT NULL,
    quantity_high INTEGER NOT NULL,
    quantity_low INTEGER NOT NULL,
    PRIMARY KEY (block, series, start, arrival, scale)
) WITHOUT ROWID;

-- Where usage has rows that came late. A table of its own, not an index: an index costs each row in
-- time as well.
CREATE TABLE late (
    series INTEGER NOT NULL,
    arrival INTEGER NOT NULL,
    block INTEGER NOT NULL,
    start INTEGER NOT NULL,
    scale INTEGER NOT NULL,
    PRIMARY KEY (series, arrival, block, start, scale)
) WITHOUT ROWID;

-- Single events that latest, unique and time-weighted meters keep: of two of one item the greater
-- stands, by (time, sequence, producer, offset). "start" and "arrival" are those of "usage".
CREATE TABLE item (
    series INTEGER NOT NULL,
    start INTEGER NOT NULL,
    item TEXT NOT NULL,
    arrival INTEGER NOT NULL,
    time INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    producer TEXT NOT NULL,
    "offset" INTEGER NOT NULL,
    quantity INTEGER NOT NULL,
    scale INTEGER NOT NULL,
    PRIMARY KEY (series, start, item, arrival)
) WITHOUT ROWID;

-- The index of the log: which offsets hold events of which hour, and of which producer.
CREATE TABLE place (
    partition INTEGER NOT NULL,
    hour INTEGER NOT NULL,
    segment INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    events INTEGER NOT NULL,
    PRIMARY KEY (partition, hour, segment)
) WITHOUT ROWID;
CREATE TABLE presence (
    partition INTEGER NOT NULL,
    segment INTEGER NOT NULL,
    producer TEXT NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    events INTEGER NOT NULL,
    PRIMARY KEY (partition, segment, producer)
) WITHOUT ROWID;

-- Numbers seen per producer incarnation: see dedup.pack.
CREATE TABLE producer (
    partition INTEGER NOT NULL,
    producer TEXT NOT NULL,
    upto BLOB NOT NULL,
    irregular TEXT,
    closed INTEGER NOT NULL,
    counted INTEGER NOT NULL,
    duplicates INTEGER NOT NULL,
    refused INTEGER NOT NULL,
    last_append INTEGER NOT NULL,
    PRIMARY KEY (producer, partition)
) WITHOUT ROWID;

-- Numbers that were seen and not counted: a mended replay of them is.
CREATE TABLE refused_number (
    partition INTEGER NOT NULL,
    producer TEXT NOT NULL,
    lane INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (producer, partition, lane, sequence)
) WITHOUT ROWID;

-- Callers' keys, within their horizon. "state" is changes.KeyState; "time" the event's own.
CREATE TABLE caller_key (
    partition INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    key TEXT NOT NULL,
    content BLOB NOT NULL,
    append_time INTEGER NOT NULL,
    state INTEGER NOT NULL,
    time INTEGER NOT NULL,
    PRIMARY KEY (partition, tenant, key)
) WITHOUT ROWID;
CREATE INDEX caller_key_age ON caller_key (partition, append_time);
CREATE INDEX caller_key_awaited ON caller_key (partition) WHERE state = 2;

-- Sessions. "claims" is JSON [starts, ends] where there is more than one start and one end after
-- it; "attributes" is a JSON object, NULL when empty.
CREATE TABLE session (
    partition INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    type TEXT NOT NULL,
    session TEXT NOT NULL,
    start INTEGER,
    "end" INTEGER,
    last_sign INTEGER NOT NULL,
    last_append INTEGER NOT NULL,
    deadline INTEGER,
    subject TEXT,
    attributes TEXT,
    claims TEXT,
    PRIMARY KEY (tenant, type, session, partition)
) WITHOUT ROWID;
CREATE INDEX session_deadline ON session (partition, deadline) WHERE deadline IS NOT NULL;
-- With session_deadline: every session that is not plainly over, for it has no end, is in conflict,
-- or is so long (a day) that its type may not allow it. A session's usual life touches one of both.
CREATE INDEX session_not_plain ON session (tenant, type, session)
    WHERE deadline IS NULL
        AND (claims IS NOT NULL OR "end" IS NULL OR "end" - start > 86400000000);

-- Sessions without an id, by subject: "facts" is JSON (see subjects.dump).
CREATE TABLE subject (
    partition INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    type TEXT NOT NULL,
    subject TEXT NOT NULL,
    facts TEXT NOT NULL,
    last_append INTEGER NOT NULL,
    deadline INTEGER,
    PRIMARY KEY (tenant, type, subject, partition)
) WITHOUT ROWID;
CREATE INDEX subject_deadline ON subject (partition, deadline) WHERE deadline IS NOT NULL;

-- What was not counted, and why. The original bytes are on the dead-letter topic.
CREATE TABLE dead_letter (
    partition INTEGER NOT NULL,
    "offset" INTEGER NOT NULL,
    append_time INTEGER NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    tenant TEXT,
    type TEXT,
    producer TEXT NOT NULL,
    lane INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (partition, "offset")
) WITHOUT ROWID;

-- Thresholds: running totals of what is watched, by period; "value" is plain decimal text. "who" is a
-- tenant or an account; "" marks a period of accounts whose earlier usage was seen to.
CREATE TABLE threshold_total (
    threshold TEXT NOT NULL,
    start INTEGER NOT NULL,
    who TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (threshold, start, who)
) WITHOUT ROWID;

-- What was told of: each value once per period. "offset" is -1 where no record did it, "log_time" 0
-- where the value was reached before it was watched.
CREATE TABLE threshold_fired (
    threshold TEXT NOT NULL,
    start INTEGER NOT NULL,
    who TEXT NOT NULL,
    at TEXT NOT NULL,
    value TEXT NOT NULL,
    partition INTEGER NOT NULL,
    "offset" INTEGER NOT NULL,
    log_time INTEGER NOT NULL,
    PRIMARY KEY (threshold, start, who, at)
) WITHOUT ROWID;

-- Steps whose account could not be asked for yet.
CREATE TABLE threshold_waiting (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    threshold TEXT NOT NULL,
    tenant TEXT NOT NULL,
    "window" INTEGER NOT NULL,
    start INTEGER NOT NULL,
    "end" INTEGER NOT NULL,
    value TEXT NOT NULL,
    partition INTEGER NOT NULL,
    "offset" INTEGER NOT NULL,
    log_time INTEGER NOT NULL
);

-- Messages that wait to leave.
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    partition INTEGER NOT NULL,
    topic TEXT NOT NULL,
    key BLOB NOT NULL,
    value BLOB,
    headers TEXT NOT NULL
);
