-- Storage clients, and which luns they see.
CREATE TABLE host (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    name             TEXT    NOT NULL UNIQUE,
    state            TEXT    NOT NULL CHECK (state IN ('creating', 'ready', 'deleting')),
    chap_key         TEXT,             -- names the file with the secrets, which are not here
    chap_user        TEXT,
    chap_mutual_user TEXT,
    time_created     INTEGER NOT NULL,
    time_updated     INTEGER NOT NULL
) STRICT;

-- An initiator belongs to one host.
CREATE TABLE host_iqn (
    iqn     TEXT    PRIMARY KEY,
    host_id INTEGER NOT NULL REFERENCES host (id) ON DELETE CASCADE,
    place   INTEGER NOT NULL          -- as the client ordered them
) STRICT;

CREATE INDEX host_iqn_host ON host_iqn (host_id);

CREATE TABLE mapping (
    host_id   INTEGER NOT NULL REFERENCES host (id) ON DELETE CASCADE,
    volume_id INTEGER NOT NULL REFERENCES volume (id) ON DELETE CASCADE,
    lun       INTEGER NOT NULL,
    state     TEXT    NOT NULL CHECK (state IN ('creating', 'ready', 'deleting')),
    PRIMARY KEY (host_id, volume_id),
    UNIQUE (host_id, lun)
) STRICT;

CREATE INDEX mapping_volume ON mapping (volume_id);
