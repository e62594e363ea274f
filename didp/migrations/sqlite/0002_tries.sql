-- Wrong answers are counted for each login and code, whatever the code is: unknown, owned and unpressed ones count alike.
DROP TABLE claim_tries;
CREATE TABLE claim_tries (
    session_id INTEGER NOT NULL REFERENCES sessions ON DELETE CASCADE,
    code       BLOB NOT NULL,
    tries      INTEGER NOT NULL,
    until      INTEGER NOT NULL,
    PRIMARY KEY (session_id, code)
) STRICT, WITHOUT ROWID;
CREATE INDEX claim_tries_by_end ON claim_tries (until);
