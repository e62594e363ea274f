-- Who may register clients, and which gateways there are: beside what the configuration file says. `rev` rises with each change,
-- so that a running DIdP sees that it has to look again.
CREATE TABLE registry (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    rev INTEGER NOT NULL
) STRICT;
INSERT INTO registry (one, rev) VALUES (1, 0);

CREATE TABLE known_registrars (
    id         TEXT PRIMARY KEY,
    kind       TEXT NOT NULL CHECK (kind IN ('manufacturer', 'developer')),
    name       TEXT NOT NULL,
    quota      INTEGER NOT NULL,
    disabled   INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE registrar_tokens (
    token      BLOB PRIMARY KEY,
    registrar  TEXT NOT NULL REFERENCES known_registrars ON DELETE CASCADE,
    expires_at INTEGER,                     -- NULL: never
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX registrar_tokens_by_registrar ON registrar_tokens (registrar);

CREATE TABLE gateways (
    client_id    TEXT PRIMARY KEY,
    secret       BLOB NOT NULL,
    former       BLOB,                      -- the secret before the last rotation
    former_until INTEGER,
    resource     TEXT NOT NULL UNIQUE,
    address      TEXT NOT NULL,             -- JSON, as token responses give it
    disabled     INTEGER NOT NULL DEFAULT 0,
    created_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
