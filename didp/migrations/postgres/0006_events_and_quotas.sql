-- The number of the last event. Whoever raises it holds the row until its commit, so numbers rise in the order of the commits.
CREATE TABLE event_head (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    seq BIGINT NOT NULL
);
INSERT INTO event_head (one, seq) VALUES (1, 0);

-- Clients of each registrar, counted as they come and go. The one without a name counts apps that registered without a token.
CREATE TABLE registrars (
    id      TEXT PRIMARY KEY,
    clients BIGINT NOT NULL
);

CREATE INDEX notices_by_time ON notices (at);
