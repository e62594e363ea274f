-- A line keeps its dead for as long as they must be told from made-up ones; what lives is found without looking at them. That
-- a node dies moves no entry of the other index.
DROP INDEX tokens_by_grant;
CREATE INDEX tokens_by_grant ON tokens (grant_id);
CREATE INDEX tokens_alive ON tokens (grant_id) WHERE state <> 'dead';
