-- How exactly an app sees what a device tells. What cannot be read grants nothing.
ALTER TABLE grant_devices ADD COLUMN views TEXT;     -- JSON object: a view for each readable channel; NULL: every value as it is
ALTER TABLE grant_devices ADD COLUMN commands TEXT;  -- JSON array of names; NULL: `channels` bounds commands too
ALTER TABLE grants ADD COLUMN future_view TEXT;      -- JSON: how exactly devices that join are seen; NULL: every value as it is
