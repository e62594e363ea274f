-- The production batch that a device was made in, and whether its maker withdrew its printed code.
ALTER TABLE devices ADD COLUMN batch TEXT;
ALTER TABLE devices ADD COLUMN withdrawn INTEGER NOT NULL DEFAULT 0;
