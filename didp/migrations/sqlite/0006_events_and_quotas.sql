-- The number of the last event: numbers rise in the order of the commits, and stand when the sweeper has taken all rows.
CREATE TABLE event_head (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    seq INTEGER NOT NULL
) STRICT;
INSERT INTO event_head (one, seq) SELECT 1, coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0);

-- Clients of each registrar, counted as they come and go: a quota must not cost more the more clients there are. The one without
-- a name counts apps that registered without a token.
CREATE TABLE registrars (
    id      TEXT PRIMARY KEY,
    clients INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO registrars (id, clients) SELECT coalesce(registrar, ''), count(*) FROM clients GROUP BY 1;

DROP INDEX claims_settling;
CREATE INDEX claims_settling ON claims (settles_at) WHERE accepted = TRUE AND state = 'taken';

CREATE INDEX notices_by_time ON notices (at);
