-- The appliance itself: one row, made when the catalog is.
CREATE TABLE system (
    one          INTEGER PRIMARY KEY CHECK (one = 1),
    id           TEXT    NOT NULL,
    init_status  TEXT    NOT NULL,
    init_message TEXT,
    multipool    INTEGER NOT NULL,
    time_created INTEGER NOT NULL
) STRICT;

-- AUTOINCREMENT: an id is never given twice, not even after its row is gone.
CREATE TABLE pool (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    name          TEXT    NOT NULL UNIQUE,
    state         TEXT    NOT NULL CHECK (state IN ('creating', 'ready', 'deleting')),
    guid          TEXT,             -- ZFS guid in decimal: SQLite has no unsigned 64-bit numbers
    pool_type     TEXT    NOT NULL,
    compression   INTEGER NOT NULL,
    deduplication INTEGER NOT NULL,
    syncwrite     INTEGER NOT NULL,
    disks         TEXT    NOT NULL, -- JSON, [[group, [path, ...]], ...], as last seen
    time_created  INTEGER NOT NULL,
    time_updated  INTEGER NOT NULL
) STRICT;

-- The journal: what was begun, by whom, and how it ended.
CREATE TABLE operation (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    verb         TEXT    NOT NULL,
    subject      TEXT    NOT NULL,
    parameters   TEXT    NOT NULL, -- JSON of engine::operation::Operation; never a secret
    user         TEXT    NOT NULL,
    request_id   TEXT    NOT NULL,
    state        TEXT    NOT NULL CHECK (state IN ('running', 'done', 'failed')),
    message      TEXT,
    time_started INTEGER NOT NULL,
    time_ended   INTEGER
) STRICT;

CREATE INDEX operation_running ON operation (id) WHERE state = 'running';
