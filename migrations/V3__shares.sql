CREATE TABLE share (
    id                INTEGER PRIMARY KEY AUTOINCREMENT,
    volume_id         INTEGER NOT NULL UNIQUE REFERENCES volume (id) ON DELETE CASCADE,
    state             TEXT    NOT NULL CHECK (state IN ('creating', 'ready', 'deleting')),
    share_type        TEXT    NOT NULL,
    name              TEXT    NOT NULL, -- path of an NFS share, name of an SMB share
    read_only         INTEGER NOT NULL,
    allowed_hosts     TEXT    NOT NULL, -- with commas between them
    snapshots_visible INTEGER NOT NULL,
    time_created      INTEGER NOT NULL,
    time_updated      INTEGER NOT NULL
) STRICT;
