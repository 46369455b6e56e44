//! The daemon is killed with -9 in the middle of things.

use serde_json::json;

use crate::{bed::Bed, wait::wait_until};

/// Kills the daemon `milliseconds` from now, by a clock on the appliance itself. Tells the process that is to die.
fn kill_after(bed: &Bed, milliseconds: u64) -> String {
    let pid = bed.daemon_pid();
    bed.shell(&format!(
        "(sleep {}.{:03}; systemctl kill -s KILL --kill-whom=main vsnapd) >/dev/null 2>&1 &",
        milliseconds / 1000,
        milliseconds % 1000
    ));
    pid
}

/// After the restart there is either the pool with its row or neither, and nothing else is left over.
fn check_after(bed: &Bed, killed: &str, what: &str) {
    wait_until("the daemon was killed", 60, || bed.daemon_pid() != killed);
    wait_until("the daemon is back", 60, || bed.try_shell("systemctl is-active -q vsnapd").status.success());
    bed.wait_for_api();
    // At once: upkeep starts such programs, too.
    let left = bed.try_shell("pgrep -a -x 'zpool|zfs|wipefs|blkid'");
    assert!(!left.status.success(), "{what}: a process was left over: {}", String::from_utf8_lossy(&left.stdout));
    bed.check_truth();
}

#[test]
fn killed_while_a_pool_is_made() {
    let bed = Bed::fresh();
    let unused = bed.unused();
    let disks = bed.equal_disks(6);
    for delay in [100, 400, 800, 1200, 1800, 2600, 3500] {
        let killed = kill_after(&bed, delay);
        let body = json!({"name": "killed", "pool_type": "raid6", "disk_list": disks});
        let request =
            bed.client().post(bed.url("/api/pool")).basic_auth(bed.credentials().0, Some(bed.credentials().1));
        // The answer may be lost with the daemon.
        let _ = request.body(body.to_string()).send();
        check_after(&bed, &killed, "create");
        bed.remove_pools();
        wait_until(&format!("killed after {delay} ms, all disks are unused again"), 60, || bed.unused() == unused);
    }
}

#[test]
fn killed_while_a_pool_is_deleted() {
    let bed = Bed::fresh();
    let unused = bed.unused();
    let disks = bed.equal_disks(6);
    for delay in [100, 500, 1000, 1700, 2500] {
        let id = bed.create_pool("killed", "raid6", &disks);
        let killed = kill_after(&bed, delay);
        let request = bed.client().delete(bed.url(&format!("/api/pool/{id}")));
        let _ = request.basic_auth(bed.credentials().0, Some(bed.credentials().1)).send();
        check_after(&bed, &killed, "delete");
        bed.remove_pools();
        wait_until(&format!("killed after {delay} ms, all disks are unused again"), 60, || bed.unused() == unused);
    }
}
