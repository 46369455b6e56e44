CREATE TABLE volume (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    name          TEXT    NOT NULL UNIQUE,
    state         TEXT    NOT NULL CHECK (state IN ('creating', 'ready', 'deleting')),
    pool_id       INTEGER NOT NULL REFERENCES pool (id) ON DELETE CASCADE,
    volume_type   TEXT    NOT NULL,
    guid          TEXT,             -- ZFS guid in decimal; none for a file-backed lun
    serial        TEXT UNIQUE,      -- that initiators see; none for a filesystem
    parent_id     INTEGER REFERENCES volume (id) DEFERRABLE INITIALLY DEFERRED,
    parent_path   TEXT,
    snapshot_id   INTEGER REFERENCES snapshot (id) DEFERRABLE INITIALLY DEFERRED, -- origin of a clone
    size_total    INTEGER,          -- limit of a filesystem, size of a lun, in bytes
    size_block    INTEGER,
    compression   INTEGER,          -- none: as the pool
    deduplication INTEGER,
    syncwrite     INTEGER,
    time_created  INTEGER NOT NULL,
    time_updated  INTEGER NOT NULL
) STRICT;

CREATE INDEX volume_pool ON volume (pool_id);
CREATE INDEX volume_parent ON volume (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX volume_origin ON volume (snapshot_id) WHERE snapshot_id IS NOT NULL;

CREATE TABLE snapshot (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    name         TEXT    NOT NULL,
    state        TEXT    NOT NULL CHECK (state IN ('creating', 'ready', 'deleting')),
    volume_id    INTEGER NOT NULL REFERENCES volume (id) ON DELETE CASCADE,
    guid         TEXT,             -- ZFS guid in decimal: version_id of the API
    expires      INTEGER,          -- seconds since the epoch
    locked       INTEGER NOT NULL, -- until then
    time_created INTEGER NOT NULL,
    time_updated INTEGER NOT NULL,
    UNIQUE (volume_id, name)
) STRICT;

CREATE INDEX snapshot_name ON snapshot (name);
CREATE INDEX snapshot_expires ON snapshot (expires) WHERE expires IS NOT NULL;

CREATE TABLE hold (
    snapshot_id  INTEGER NOT NULL REFERENCES snapshot (id) ON DELETE CASCADE,
    reason       TEXT    NOT NULL,
    user         TEXT    NOT NULL,
    time_created INTEGER NOT NULL,
    PRIMARY KEY (snapshot_id, reason)
) STRICT;
