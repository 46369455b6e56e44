-- What the newest snapshot of a replica may be: bookmarks of these stay, whatever happens to the snapshots.
-- The newest that both sides had when the replica was last looked at, and the one that was sent since then.
ALTER TABLE relationship ADD COLUMN base    INTEGER;
ALTER TABLE relationship ADD COLUMN sending INTEGER;

UPDATE relationship SET base = last_success, sending = last_attempt WHERE role = 'primary';
