//! What the appliance does by itself.

use crate::{bed::Bed, wait::wait_until};

#[test]
fn a_scrub_that_is_due_starts_by_itself() {
    let bed = Bed::fresh();
    let id = bed.create_pool("scheduled", "raid0", &bed.equal_disks(1));
    let scan = || bed.get(&format!("/api/pool/{id}/status")).ok()["scan"].clone();
    bed.shell("cp -p /etc/vsnap/vsnap.toml /root/vsnap.toml");
    let _restored = bed.afterwards("mv /root/vsnap.toml /etc/vsnap/vsnap.toml; systemctl restart vsnapd");
    // Due every minute; upkeep looks every 10 seconds (tests/vm/prepare), and once a minute as it is installed.
    let schedule = r#"scrub_schedule = "* * * * *""#;
    bed.shell(&format!(
        "sed -i 's/^scrub_schedule = .*/{schedule}/' /etc/vsnap/vsnap.toml && grep -qF '{schedule}' /etc/vsnap/vsnap.toml \
         && systemctl restart vsnapd"
    ));
    bed.wait_for_api();
    assert!(scan().is_null(), "nobody has scrubbed it yet");
    wait_until("the scrub starts", 150, || scan()["function"] == "scrub");
    assert!(bed.shell(&format!("zpool status vpool{id}")).contains("scrub"));
    bed.shell("journalctl --sync; journalctl -u vsnapd -o cat -n 50 | grep -q 'starting the scheduled scrub'");
}
