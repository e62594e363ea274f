-- Authorization requests that apps pushed (RFC 9126). `parameters` is a form without credentials.
CREATE TABLE pushed_requests (
    handle     BLOB PRIMARY KEY,
    client_id  TEXT NOT NULL REFERENCES clients ON DELETE CASCADE,
    parameters TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX pushed_requests_by_expiry ON pushed_requests (expires_at);

-- Device authorizations (RFC 8628) of apps without a browser.
CREATE TABLE device_authorizations (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    code       BLOB NOT NULL UNIQUE,
    user_code  BLOB NOT NULL UNIQUE,
    client_id  TEXT NOT NULL REFERENCES clients ON DELETE CASCADE,
    parameters TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('open', 'allowed', 'declined')),
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX device_authorizations_by_expiry ON device_authorizations (expires_at);

-- Client assertions that were used, until they end (RFC 7523 §3, jti).
CREATE TABLE used_assertions (
    id         BLOB PRIMARY KEY,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX used_assertions_by_expiry ON used_assertions (expires_at);
