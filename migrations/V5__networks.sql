-- Services of network interfaces. One without a row offers everything.
CREATE TABLE network (
    id           TEXT    PRIMARY KEY, -- of the interface: its MAC, as the API shows it
    name         TEXT    NOT NULL,    -- when it was last seen: for the packet filter as long as it is not there
    services     TEXT    NOT NULL,    -- words with commas
    time_updated INTEGER NOT NULL
) STRICT;
