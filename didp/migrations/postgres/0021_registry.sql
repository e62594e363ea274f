-- Who may register clients, and which gateways there are: beside what the configuration file says. `rev` rises with each change,
-- so that a running DIdP sees that it has to look again.
CREATE TABLE registry (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    rev BIGINT NOT NULL
);
INSERT INTO registry (one, rev) VALUES (1, 0);

CREATE TABLE known_registrars (
    id         TEXT PRIMARY KEY,
    kind       TEXT NOT NULL CHECK (kind IN ('manufacturer', 'developer')),
    name       TEXT NOT NULL,
    quota      BIGINT NOT NULL,
    disabled   BOOLEAN NOT NULL DEFAULT FALSE,
    created_at BIGINT NOT NULL
);

CREATE TABLE registrar_tokens (
    token      BYTEA PRIMARY KEY,
    registrar  TEXT NOT NULL REFERENCES known_registrars ON DELETE CASCADE,
    expires_at BIGINT,                     -- NULL: never
    created_at BIGINT NOT NULL
);
CREATE INDEX registrar_tokens_by_registrar ON registrar_tokens (registrar);

CREATE TABLE gateways (
    client_id    TEXT PRIMARY KEY,
    secret       BYTEA NOT NULL,
    former       BYTEA,                      -- the secret before the last rotation
    former_until BIGINT,
    resource     TEXT NOT NULL UNIQUE,
    address      TEXT NOT NULL,             -- JSON, as token responses give it
    disabled     BOOLEAN NOT NULL DEFAULT FALSE,
    created_at   BIGINT NOT NULL
);
