-- A store has a random name of its own, so that workers of one group can tell two stores apart.
CREATE TABLE made (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    identity TEXT NOT NULL
);
INSERT INTO made VALUES (1, lower(hex(randomblob(16))));
