-- Other appliances. Keys are public ones; a partner's password is never kept.
CREATE TABLE partner (
    id           TEXT    PRIMARY KEY, -- of the other system
    state        TEXT    NOT NULL CHECK (state IN ('creating', 'ready', 'deleting')),
    address      TEXT    NOT NULL,
    api_port     INTEGER NOT NULL,
    ssh_port     INTEGER NOT NULL,
    public_key   TEXT,                -- that it logs in with; none before it has introduced itself
    host_keys    TEXT    NOT NULL,    -- by which its SSH server is known, one a line
    addresses    TEXT    NOT NULL,    -- where it takes data, with commas
    rate_limit   INTEGER,             -- bytes a second
    time_created INTEGER NOT NULL,
    time_updated INTEGER NOT NULL
) STRICT;

CREATE TABLE relationship (
    id               TEXT    PRIMARY KEY,
    state            TEXT    NOT NULL CHECK (state IN ('creating', 'ready', 'deleting')),
    role             TEXT    NOT NULL CHECK (role IN ('primary', 'replica')),
    partner_id       TEXT    NOT NULL REFERENCES partner (id),
    volume_id        INTEGER NOT NULL REFERENCES volume (id) ON DELETE CASCADE,
    remote_pool_id   INTEGER NOT NULL, -- 0 until the partner has said it
    remote_volume_id INTEGER NOT NULL,
    remote_name      TEXT    NOT NULL,
    last_status      TEXT,
    last_attempt     INTEGER,          -- numbers of snapshots, also of those that are gone
    last_success     INTEGER,
    time_created     INTEGER NOT NULL,
    time_updated     INTEGER NOT NULL,
    UNIQUE (volume_id, partner_id)
) STRICT;

CREATE INDEX relationship_partner ON relationship (partner_id);

-- Sessions outlive their relationship, as history.
CREATE TABLE session (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    relationship_id TEXT    NOT NULL,
    local_snapshot  INTEGER,
    local_name      TEXT,
    local_guid      TEXT,              -- decimal
    remote_snapshot INTEGER,
    remote_name     TEXT,
    address         TEXT,
    sent            INTEGER,
    status          TEXT    NOT NULL CHECK (status IN ('PENDING', 'ACTIVE', 'COMPLETED', 'FAILED')),
    time_queued     INTEGER NOT NULL,
    time_started    INTEGER,
    time_ended      INTEGER,
    message         TEXT
) STRICT;

CREATE INDEX session_relationship ON session (relationship_id, id);
CREATE INDEX session_open ON session (id) WHERE status IN ('PENDING', 'ACTIVE');

-- What is on its way to a replica: by its guid the snapshot is known that is not marked yet.
CREATE TABLE delivery (
    relationship_id TEXT    NOT NULL REFERENCES relationship (id) ON DELETE CASCADE,
    guid            TEXT    NOT NULL,
    snapshot_id     INTEGER NOT NULL REFERENCES snapshot (id) ON DELETE CASCADE,
    PRIMARY KEY (relationship_id, guid)
) STRICT;

-- Preferences that are changed over the API.
CREATE TABLE preference (
    name  TEXT    PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT;
