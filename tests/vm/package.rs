//! The package: what an upgrade and a removal leave alone.

use crate::bed::Bed;

/// Where `make vm-test` puts the package on the appliance.
const PACKAGE: &str = "/root/vsnap.deb";

#[test]
fn upgrade_and_removal_leave_data_alone() {
    let bed = Bed::fresh();
    if !bed.try_shell(&format!("test -e {PACKAGE}")).status.success() {
        bed.shell(&format!("cd /root && cp $(ls -t *.deb | head -n 1) {PACKAGE}"));
    }
    let id = bed.create_pool("kept", "raid5", &bed.equal_disks(3));
    bed.shell(&format!("dd if=/dev/urandom of=/vsnap/vpool{id}/data bs=1M count=5 status=none && sha256sum /vsnap/vpool{id}/data > /root/sum"));
    bed.shell("echo '# an admin was here' >> /etc/vsnap/vsnap.toml && cp -p /etc/vsnap/vsnap.toml /root/");

    bed.shell(&format!("DEBIAN_FRONTEND=noninteractive dpkg -i {PACKAGE}"));
    bed.wait_for_api();
    bed.check_truth();
    bed.shell("sha256sum -c /root/sum && grep -q 'an admin was here' /etc/vsnap/vsnap.toml");

    bed.shell("DEBIAN_FRONTEND=noninteractive dpkg -r vsnap");
    assert!(!bed.try_shell("systemctl is-active vsnapd").status.success());
    bed.shell("sha256sum -c /root/sum && test -e /var/lib/vsnap/catalog.sqlite && test -e /etc/vsnap/vsnap.toml");
    bed.shell(&format!("DEBIAN_FRONTEND=noninteractive dpkg -i {PACKAGE}"));
    bed.wait_for_api();
    bed.check_truth();
    assert_eq!(bed.pool(&id)["name"], "kept");

    bed.shell("DEBIAN_FRONTEND=noninteractive dpkg -P vsnap </dev/null");
    bed.shell(&format!("sha256sum -c /root/sum && zpool list vpool{id} >/dev/null"));
    assert!(!bed.try_shell("test -e /var/lib/vsnap").status.success(), "purge removes the catalog");
    // The catalog is gone, so the pool is nobody's: what is left is the admin's to decide.
    bed.zpool("destroy", &format!("vpool{id}"));
    bed.shell(&format!("udevadm settle; for p in /dev/disk/by-id/scsi-3*-part1; do [ $(blkid -p -s LABEL -o value $p) = vpool{id} ] && zpool labelclear -f $p && wipefs -qa ${{p%-part1}}; done; udevadm settle"));
    bed.shell(&format!(
        "DEBIAN_FRONTEND=noninteractive dpkg -i {PACKAGE}; mv /root/vsnap.toml /etc/vsnap/; systemctl restart vsnapd"
    ));
    let (user, _) = bed.credentials();
    bed.try_shell(&format!("getent group vsnap | grep -qw {user} || vsnap user grant {user}"));
    bed.wait_for_api();
}
