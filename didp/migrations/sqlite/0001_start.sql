-- Times are Unix seconds. Columns of type BLOB hold keyed hashes (key id, then HMAC-SHA256) unless said otherwise.

CREATE TABLE clients (
    client_id          TEXT PRIMARY KEY,
    kind               TEXT NOT NULL CHECK (kind IN ('device', 'app')),
    auth_method        TEXT NOT NULL,
    secret             TEXT,                -- PHC string; NULL for public clients
    renewed_secret     TEXT,                -- PHC string; replaces `secret` when it is first used
    name               TEXT NOT NULL,
    metadata           TEXT NOT NULL,       -- JSON, as registered
    registrar          TEXT,                -- NULL: registered without a token
    registration_token BLOB,
    idempotency        BLOB UNIQUE,
    disabled           INTEGER NOT NULL DEFAULT 0,
    created_at         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX clients_by_registrar ON clients (registrar);

CREATE TABLE devices (
    client_id TEXT PRIMARY KEY REFERENCES clients ON DELETE CASCADE,
    code      BLOB NOT NULL UNIQUE,
    confirm   TEXT NOT NULL CHECK (confirm IN ('code', 'press')),
    channels  TEXT NOT NULL                 -- JSON
) STRICT, WITHOUT ROWID;

CREATE TABLE users (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE identities (
    user_key BLOB PRIMARY KEY,
    user_id  INTEGER NOT NULL REFERENCES users ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE pseudonyms (
    user_id     INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
    gateway     TEXT NOT NULL,
    sub         TEXT NOT NULL UNIQUE,
    state_share BLOB NOT NULL,              -- 32 random bytes
    rev         INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (user_id, gateway)
) STRICT, WITHOUT ROWID;

CREATE TABLE sessions (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    token      BLOB NOT NULL UNIQUE,
    user_id    INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

CREATE TABLE ownerships (
    device  TEXT PRIMARY KEY REFERENCES clients ON DELETE CASCADE,
    id      TEXT NOT NULL UNIQUE,           -- for links on the owner's pages
    user_id INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
    label   TEXT NOT NULL UNIQUE,
    name    TEXT,
    state   TEXT NOT NULL CHECK (state IN ('pending', 'active', 'suspended')),
    since   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX ownerships_by_user ON ownerships (user_id);

CREATE TABLE grants (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    public_id   TEXT NOT NULL UNIQUE,       -- for links on the owner's pages
    sid         TEXT NOT NULL UNIQUE,
    user_id     INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
    client_id   TEXT NOT NULL REFERENCES clients ON DELETE CASCADE,
    gateway     TEXT NOT NULL,
    kind        TEXT NOT NULL CHECK (kind IN ('device', 'app')),
    state       TEXT NOT NULL CHECK (state IN ('pending', 'active')),
    scope       TEXT NOT NULL,
    future      INTEGER NOT NULL DEFAULT 0,
    share_names INTEGER NOT NULL DEFAULT 0,
    channels    TEXT,                       -- JSON array of names that bound every device; NULL: all
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER
) STRICT;
CREATE INDEX grants_by_user ON grants (user_id);
CREATE INDEX grants_by_client ON grants (client_id);
CREATE INDEX grants_by_expiry ON grants (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE grant_devices (
    grant_id  INTEGER NOT NULL REFERENCES grants ON DELETE CASCADE,
    device    TEXT NOT NULL REFERENCES clients ON DELETE CASCADE,
    reference TEXT NOT NULL UNIQUE,
    channels  TEXT,                         -- JSON array of names; NULL: all that the grant allows
    PRIMARY KEY (grant_id, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX grant_devices_by_device ON grant_devices (device);

-- The line of a grant: a code or a pair of tokens each, with the one it came from.
CREATE TABLE tokens (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    grant_id       INTEGER NOT NULL REFERENCES grants ON DELETE CASCADE,
    parent         INTEGER,
    state          TEXT NOT NULL CHECK (state IN ('fresh', 'current', 'dead')),
    handle         BLOB NOT NULL UNIQUE,    -- the authorization code, or the refresh token
    access         BLOB UNIQUE,             -- NULL for a code
    access_expires INTEGER,
    challenge      TEXT,                    -- a code's PKCE challenge
    redirect_uri   TEXT,                    -- a code's redirect URI; NULL for a device
    presented_at   INTEGER,                 -- when the handle was first presented
    expires_at     INTEGER NOT NULL
) STRICT;
CREATE INDEX tokens_by_grant ON tokens (grant_id, state);
CREATE INDEX tokens_by_expiry ON tokens (expires_at);
CREATE INDEX tokens_ending ON tokens (expires_at) WHERE state <> 'dead';

-- Claim windows and what became of them. `state` goes open, taken, granted, redeemed, done; or ends in between.
CREATE TABLE claims (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    device      TEXT NOT NULL REFERENCES clients ON DELETE CASCADE,
    connection  INTEGER NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('open', 'taken', 'granted', 'redeemed', 'done', 'gone', 'expired', 'declined', 'contested', 'exhausted')),
    confirm     TEXT NOT NULL,
    user_code   BLOB,
    challenge   TEXT NOT NULL,
    tries       INTEGER NOT NULL DEFAULT 0,
    ticket      BLOB UNIQUE,
    session_id  INTEGER,
    user_id     INTEGER,
    grant_id    INTEGER,
    ownership   TEXT,
    deadline    INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX claims_live ON claims (device) WHERE state IN ('open', 'taken', 'granted', 'redeemed');
CREATE INDEX claims_by_deadline ON claims (deadline);

-- How often one login answered in one window.
CREATE TABLE claim_tries (
    claim_id   INTEGER NOT NULL REFERENCES claims ON DELETE CASCADE,
    session_id INTEGER NOT NULL,
    tries      INTEGER NOT NULL,
    PRIMARY KEY (claim_id, session_id)
) STRICT, WITHOUT ROWID;

-- Logins that wait for the press on a device without a display.
CREATE TABLE claim_waiting (
    device     TEXT NOT NULL REFERENCES clients ON DELETE CASCADE,
    session_id INTEGER NOT NULL,
    until      INTEGER NOT NULL,
    PRIMARY KEY (device, session_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    gateway TEXT NOT NULL,
    kind    TEXT NOT NULL,
    sub     TEXT,
    sid     TEXT,
    at      INTEGER NOT NULL
) STRICT;
CREATE INDEX events_by_gateway ON events (gateway, seq);
CREATE INDEX events_by_time ON events (at);

CREATE TABLE notices (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
    at      INTEGER NOT NULL,
    kind    TEXT NOT NULL,
    subject TEXT NOT NULL
) STRICT;
CREATE INDEX notices_by_user ON notices (user_id, at);
