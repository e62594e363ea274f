-- What an app asked for: the most that its owner can give it later. JSON; NULL: what it was given.
ALTER TABLE grants ADD COLUMN asked TEXT;

-- Devices that were handed over and not claimed yet. Until then only this code claims the device.
CREATE TABLE transfers (
    device TEXT PRIMARY KEY REFERENCES clients ON DELETE CASCADE,
    code   BYTEA NOT NULL UNIQUE,
    until  BIGINT NOT NULL
);
CREATE INDEX transfers_by_end ON transfers (until);

-- What hangs on an owner is found without looking at everybody's.
CREATE INDEX sessions_by_user ON sessions (user_id);
CREATE INDEX identities_by_user ON identities (user_id);
CREATE INDEX claims_by_user ON claims (user_id) WHERE user_id IS NOT NULL;
