-- A device without a display is given only after a time of silence; until then the owner's decision waits here.
ALTER TABLE claims ADD COLUMN settles_at INTEGER;             -- NULL: the device shows digits
ALTER TABLE claims ADD COLUMN accepted INTEGER NOT NULL DEFAULT 0;
ALTER TABLE claims ADD COLUMN chosen_name TEXT;               -- only while `accepted` waits for `settles_at`
CREATE INDEX claims_settling ON claims (settles_at) WHERE accepted = 1 AND state = 'taken';

-- People, not logins, wait for the press on a device without a display.
DROP TABLE claim_waiting;
CREATE TABLE claim_waiting (
    device  TEXT NOT NULL REFERENCES clients ON DELETE CASCADE,
    user_id INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
    until   INTEGER NOT NULL,
    PRIMARY KEY (device, user_id)
) STRICT, WITHOUT ROWID;
