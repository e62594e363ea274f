-- A session has an end that use does not move.
ALTER TABLE sessions ADD COLUMN ends_at INTEGER NOT NULL DEFAULT 0;
UPDATE sessions SET ends_at = expires_at;

-- Apps that registered without a token.
CREATE INDEX clients_unverified ON clients (created_at) WHERE registrar IS NULL;
