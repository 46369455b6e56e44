//! `vsnap pool show`: all pools in a list, one in full.

use serde_json::{Value, json};

use super::{
    Session,
    failure::Result,
    human, json,
    table::{self, Column::*},
    which::{Pool, Which},
};

/// Shows the pool that is named, or all.
pub(super) fn show(session: &Session, which: &Which<Pool>) -> Result {
    let client = &session.client;
    if which.is_given() {
        let found = which.find(client)?;
        return session.output.show(&json::pool(client.get(&found.path())?), pool_text);
    }
    let list = client.get("/api/pool")?;
    if !session.output.is_json() {
        return session.output.show(&list, pools_text);
    }
    // Scripts get every detail, which the list of the API does not have.
    let mut pools = Vec::new();
    for pool in json::items(&list, "pools") {
        match client.get(&format!("/api/pool/{}", json::text(pool, "id"))) {
            Ok(detail) => pools.push(json::pool(detail)),
            // Deleted in between.
            Err(failure) if failure.is_not_found() => {}
            Err(failure) => return Err(failure),
        }
    }
    session.output.show(&json!({ "total": pools.len(), "pools": pools }), pools_text)
}

fn pools_text(list: &Value) -> String {
    let row = |pool: &Value| {
        let (text, size) = (|member| json::text(pool, member), |member| human::size_of(pool, member));
        vec![
            text("id"),
            text("name"),
            text("pool_type"),
            text("status"),
            size("size_total"),
            size("size_used"),
            size("size_free"),
            share_used(pool),
        ]
    };
    let columns = [
        Number("ID"),
        Text("NAME"),
        Text("TYPE"),
        Text("STATUS"),
        Number("SIZE"),
        Number("USED"),
        Number("FREE"),
        Number("USED %"),
    ];
    let pools = json::items(list, "pools").iter().map(row);
    table::list(&columns, pools, "There is no pool yet: make one with `vsnap pool create`.")
}

/// One pool in full, for people.
pub(super) fn pool_text(pool: &Value) -> String {
    let (text, size) = (|member| json::text(pool, member), |member| human::size_of(pool, member));
    let on = |member: &str| if pool[member] == true { "on" } else { "off" }.to_owned();
    let ratio = |member: &str, ratio: &str| format!("{}, ratio {}", on(member), json::text(pool, ratio));
    let members = [
        ("Id", text("id")),
        ("Name", text("name")),
        ("Type", text("pool_type")),
        ("Status", format!("{} (health {})", text("status"), text("health"))),
        ("Size", size("size_total")),
        ("Used", format!("{} ({} %)", size("size_used"), share_used(pool))),
        ("Free", size("size_free")),
        ("Compression", ratio("compression", "compression_ratio")),
        ("Deduplication", ratio("deduplication", "deduplication_ratio")),
        ("Written by clients", size("size_before_compression")),
        ("After compression", size("size_before_deduplication")),
        ("Synchronous writes", if pool["syncwrite"] == true { "honoured" } else { "acknowledged at once" }.to_owned()),
        ("Disks in a group", text("diskgroup_size")),
        ("Made", human::time_of(pool, "time_created")),
        ("Changed", human::time_of(pool, "time_updated")),
    ];
    let groups = pool["disks"].as_object().into_iter().flatten();
    let groups = groups.map(|(group, _)| (group.as_str(), json::text(&pool["disks"], group).replace(", ", "\n")));
    table::detail(members.into_iter().chain(groups))
}

fn share_used(pool: &Value) -> String {
    let share = json::number(pool, "size_used").zip(json::number(pool, "size_total"));
    // Rounded up, so that a pool with something in it is not shown as empty.
    let share = share.and_then(|(used, total)| (used * 100 + total - 1).checked_div(total));
    share.map_or_else(|| "-".to_owned(), |share| share.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demo() -> Value {
        json!({
            "compression": true, "compression_ratio": "1.00", "deduplication": false, "deduplication_ratio": "1.00",
            "diskgroup_size": 4, "disks": { "raid6_group1": ["/dev/disk/by-id/a", "/dev/disk/by-id/b"], "spare": [] },
            "id": "1", "name": "demo1", "pool_type": "raid6", "size_before_compression": "2668643328",
            "size_before_deduplication": "904680960", "size_total": "22613000803", "size_free": "22612845766",
            "size_used": "155037", "status": "ONLINE", "syncwrite": false, "health": 100,
            "time_created": "1497365131", "time_updated": null,
        })
    }

    #[test]
    fn a_pool_in_a_list() {
        let text = pools_text(&json!({ "pools": [demo()] }));
        let expected = "ID  NAME   TYPE   STATUS      SIZE     USED      FREE  USED %\n \
                        1  demo1  raid6  ONLINE  21.1 GiB  151 KiB  21.1 GiB       1";
        assert_eq!(text, expected);
        assert!(pools_text(&json!({ "pools": [] })).contains("vsnap pool create"));
    }

    #[test]
    fn a_pool_in_full() {
        let text = pool_text(&demo());
        for line in [
            "Status:              ONLINE (health 100)",
            "Used:                151 KiB (1 %)",
            "Compression:         on, ratio 1.00",
            "Synchronous writes:  acknowledged at once",
            "raid6_group1:        /dev/disk/by-id/a",
            "                     /dev/disk/by-id/b",
        ] {
            assert!(text.lines().any(|it| it == line), "{line:?} in\n{text}");
        }
    }

    #[test]
    fn a_pool_that_is_not_imported_has_no_numbers() {
        let mut pool = demo();
        for member in ["size_total", "size_free", "size_used", "compression_ratio"] {
            pool[member] = Value::Null;
        }
        assert!(pool_text(&pool).contains("Used:                - (- %)"));
    }
}
