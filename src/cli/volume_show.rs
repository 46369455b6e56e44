//! `vsnap volume show`: volumes in a list, one in full.

use serde_json::Value;

use super::{
    Session,
    failure::Result,
    human, json,
    table::{self, Column::*},
    volume::Show,
    which::{self, Pool},
};

/// Shows the volume that is named, or all, or some.
pub(super) fn show(session: &Session, show: &Show) -> Result {
    let client = &session.client;
    if show.which.is_given() {
        let found = show.which.find(client)?;
        return session.show(&found.path(), volume_text);
    }
    let mut query: Vec<_> = show.part.parameters().collect();
    if let Some(pool) = &show.pool {
        query.push(("pool_id", which::find::<Pool>(client, pool)?.id));
    }
    if let Some(kind) = show.volume_type {
        query.push(("volume_type", kind.word().to_owned()));
    }
    // Scripts get every detail, and people the name of the pool, which the short list does not have.
    query.push(("detail", "true".to_owned()));
    let query: Vec<_> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
    session.output.show(&client.find("/api/volume", &query)?, volumes_text)
}

fn volumes_text(list: &Value) -> String {
    let row = |volume: &Value| {
        let (text, size) = (|member| json::text(volume, member), |member| human::size_of(volume, member));
        vec![
            text("id"),
            text("name"),
            text("volume_type"),
            text("pool_name"),
            size("size_total"),
            size("size_used"),
            size("size_free"),
            text("snapshot_id"),
        ]
    };
    let columns = [
        Number("ID"),
        Text("NAME"),
        Text("TYPE"),
        Text("POOL"),
        Number("SIZE"),
        Number("USED"),
        Number("FREE"),
        Number("CLONE OF"),
    ];
    let volumes = json::items(list, "volumes");
    let text =
        table::list(&columns, volumes.iter().map(row), "There is no such volume; `vsnap volume create` makes one.");
    format!("{text}{}", human::rest(volumes.len(), list))
}

/// One volume in full, for people.
pub(super) fn volume_text(volume: &Value) -> String {
    let (text, size) = (|member| json::text(volume, member), |member| human::size_of(volume, member));
    let on = |member: &str| match volume[member].as_bool() {
        Some(true) => "on".to_owned(),
        Some(false) => "off".to_owned(),
        None => "-".to_owned(),
    };
    let limit = if volume["volume_type"] == "filesystem" { "Limit" } else { "Size" };
    let mut members = vec![
        ("Id", text("id")),
        ("Name", text("name")),
        ("Type", text("volume_type")),
        ("Pool", format!("{} (id {})", text("pool_name"), text("pool_id"))),
        (limit, size("size_total")),
        ("Used", size("size_used")),
        ("Free", size("size_free")),
    ];
    let own = [
        ("Block size", "size_block", size("size_block")),
        ("Serial number", "serial", text("serial")),
        ("Clone of snapshot", "snapshot_id", text("snapshot_id")),
        ("In volume", "parent_id", text("parent_id")),
        ("File", "parent_path", text("parent_path")),
        ("Share", "share_id", text("share_id")),
        ("Compression", "compression", on("compression")),
        ("Deduplication", "deduplication", on("deduplication")),
        ("Synchronous writes", "syncwrite", honoured(volume)),
    ];
    // Of what only some volumes have, what this one has.
    members.extend(own.into_iter().filter(|(_, member, _)| !volume[*member].is_null()).map(|(name, _, it)| (name, it)));
    members.push(("Made", human::time_of(volume, "time_created")));
    members.push(("Changed", human::time_of(volume, "time_updated")));
    table::detail(members)
}

fn honoured(volume: &Value) -> String {
    if volume["syncwrite"] == true { "honoured" } else { "acknowledged at once" }.to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lun() -> Value {
        json!({
            "id": "7", "name": "my_new_vol", "volume_type": "lun", "is_clone": true, "serial": "68d65662",
            "pool_id": "1", "pool_name": "demo1", "size_total": "1073741824", "size_free": "1073741824",
            "size_used": "35856", "parent_id": null, "parent_path": null, "snapshot_id": "5", "share_id": null,
            "host_ids": [], "time_created": "1497365131", "time_updated": "1497365131", "size_block": "65536",
            "compression": true, "deduplication": false, "syncwrite": false,
        })
    }

    #[test]
    fn a_volume_in_a_list() {
        let text = volumes_text(&json!({ "volumes": [lun()], "total": 30 }));
        let expected = "ID  NAME        TYPE  POOL      SIZE      USED     FREE  CLONE OF\n \
                        7  my_new_vol  lun   demo1  1.0 GiB  35.0 KiB  1.0 GiB         5\n\
                        1 of 30 are shown.";
        assert_eq!(text, expected);
        assert!(volumes_text(&json!({ "volumes": [], "total": 0 })).contains("vsnap volume create"));
    }

    #[test]
    fn a_volume_in_full() {
        let text = volume_text(&lun());
        for line in [
            "Pool:                demo1 (id 1)",
            "Size:                1.0 GiB",
            "Block size:          64.0 KiB",
            "Clone of snapshot:   5",
            "Compression:         on",
            "Synchronous writes:  acknowledged at once",
        ] {
            assert!(text.lines().any(|it| it == line), "{line:?} in\n{text}");
        }
        assert!(!text.contains("File:"), "{text}");
    }
}
