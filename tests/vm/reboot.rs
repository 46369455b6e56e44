//! What comes back after a reboot: everything. One reboot for all of it, since it takes longer than most tests.

use serde_json::Value;

use crate::{
    bed::Bed,
    hosts, networks,
    pool_failures::write_data,
    shares,
    volumes::{filesystem, lun, pool},
    wait::wait_until,
};

const MIB: u64 = 1 << 20;

/// What must be true after the reboot.
type Check = Box<dyn FnOnce(&Bed)>;

#[test]
fn everything_comes_back_and_strangers_are_left_alone() {
    let bed = Bed::fresh();
    hosts::log_out(&bed);
    hosts::remove_hosts(&bed);
    let _open = bed.afterwards("vsnap network update eth1 --services all");
    let pool = pool(&bed);
    // So that a failure here is no failure of every test that comes after it.
    let disks = bed.equal_disks(5);
    let _gone = bed.afterwards(format!(
        "zpool list stranger >/dev/null 2>&1 || zpool import -d /dev/disk/by-id stranger; zpool destroy stranger && \
         for part in /dev/disk/by-id/scsi-{0}-part*; do zpool labelclear -f $part; done; \
         wipefs -qaf /dev/disk/by-id/scsi-{0}",
        disks[4]
    ));
    let checks = [pools(&bed, disks.clone()), luns(&bed, &pool), volumes(&bed, &pool), services(&bed), exports(&bed)];
    let names = |kind: &str| -> Vec<Value> {
        let list = bed.get(&format!("/api/{kind}")).ok();
        list[format!("{kind}s")].as_array().unwrap().iter().map(|one| one["name"].clone()).collect()
    };
    let before = ["pool", "volume"].map(names);
    bed.reboot();
    assert_eq!(["pool", "volume"].map(names), before, "and no pool of a stranger");
    // The last one first: the target is reached over the loopback again when all interfaces have all services.
    checks.into_iter().rev().for_each(|check| check(&bed));
}

fn pools(bed: &Bed, disks: Vec<String>) -> Check {
    let id = bed.create_pool("reboot", "raid6", &disks[..4]);
    write_data(bed, &id);
    bed.shell(&format!(
        "cp /tmp/sum /root/sum && zpool create -f stranger /dev/disk/by-id/scsi-{} && echo mine > /stranger/file",
        disks[4]
    ));
    Box::new(move |bed| {
        assert_eq!(bed.pool(&id)["status"], "ONLINE");
        bed.shell("sha256sum -c /root/sum");
        // The distribution imported it, or it waits to be imported; nobody else touched it.
        bed.shell(
            "zpool list stranger >/dev/null 2>&1 || zpool import -d /dev/disk/by-id stranger; grep -q mine /stranger/file",
        );
        bed.zpool("destroy", "stranger");
        bed.wipe(&disks[4]);
    })
}

fn volumes(bed: &Bed, pool: &str) -> Check {
    let (volume, lun) = (filesystem(bed, pool, "fs"), lun(bed, pool, "lun", 16 * MIB));
    let file = format!("/vsnap/vpool{pool}/fs{volume}/file");
    let device = format!("/dev/zvol/vpool{pool}/lun{lun}");
    bed.shell(&format!("echo kept > {file}; sync"));
    Box::new(move |bed| {
        assert_eq!(bed.shell(&format!("cat {file}")), "kept");
        assert_eq!(bed.shell(&format!("blockdev --getsize64 {device}")), (16 * MIB).to_string());
    })
}

/// Luns, and a reservation of one.
fn luns(bed: &Bed, pool: &str) -> Check {
    let volumes: Vec<String> = (0..5).map(|at| lun(bed, pool, &format!("disk{at}"), 16 * MIB)).collect();
    let host = hosts::host(bed, "tester", &[hosts::IQN]);
    for volume in &volumes {
        hosts::map(bed, volume, &host);
    }
    hosts::become_initiator(bed, hosts::IQN, "");
    assert!(hosts::log_in(bed));
    let disk = hosts::device(bed, 3);
    bed.shell(&format!("echo kept | dd of={disk} bs=512 conv=sync oflag=direct status=none"));
    bed.shell(&format!(
        "sg_persist --out --register --param-sark=abc123 --param-aptpl {disk}; \
         sg_persist --out --reserve --param-rk=abc123 --prout-type=5 {disk}"
    ));
    let configfs = hosts::CONFIGFS;
    let links = move |bed: &Bed| bed.shell(&format!("find {configfs}/iscsi -type l -printf '%p %l\\n' | sort"));
    let before = links(bed);
    hosts::log_out(bed);
    Box::new(move |bed| {
        assert_eq!(links(bed), before);
        let store = format!("{configfs}/core/iblock_*/vsnap-volume{}", volumes[3]);
        let kept = bed.shell(&format!("cat {store}/pr/res_pr_registered_i_pts {store}/pr/res_holder"));
        assert!(kept.contains("0x0000000000abc123"), "{kept}");
        hosts::become_initiator(bed, hosts::IQN, "");
        assert!(hosts::log_in(bed));
        let disk = hosts::device(bed, 3);
        assert_eq!(bed.shell(&format!("head -c 4 {disk}")), "kept");
        let keys = bed.shell(&format!("sg_persist --in -k {disk}"));
        assert!(keys.contains("0xabc123"), "{keys}");
        hosts::log_out(bed);
        hosts::remove_hosts(bed);
        hosts::check_nothing_left(bed);
    })
}

/// What is reachable through the second network; and NFS has its fixed ports from the first start on.
fn services(bed: &Bed) -> Check {
    bed.shell("vsnap network update eth1 --services mgmt,nfs");
    Box::new(|bed| {
        let rules = networks::table(bed, "vsnap").unwrap();
        assert!(rules.contains("\"eth1\" tcp dport { 139, 445, 3260 } reject"), "{rules}");
        let target = hosts::CONFIGFS.to_owned() + "/iscsi/iqn.2017-08.com.catalogic.vsnap:*/tpgt_1/np";
        let portals = bed.shell(&format!("ls {target}"));
        let closed = bed.shell("ip -br -4 address show dev eth1 | sed -E 's:.* ([0-9.]+)/.*:\\1:'");
        assert!(closed.starts_with("10."), "{closed}");
        // The clients that look at the exports have networks too, which may be among them by now.
        let offered = |address: &str| portals.lines().any(|portal| portal == format!("{address}:3260"));
        assert!(offered("10.0.2.15"), "from the first start on: {portals}");
        assert!(!["0.0.0.0", "[::]", &closed].into_iter().any(offered), "{portals}");
        // NFS is everywhere; SMB is not, whether Samba or the daemon was up first.
        let smb = networks::listens(bed, 445);
        assert!(smb.contains("10.0.2.15") && smb.contains("127.0.0.1"), "{smb:?}");
        assert!(!["0.0.0.0", "::", "*", &closed].into_iter().any(|address| smb.contains(address)), "{smb:?}");
        let ports = bed.shell("rpcinfo -p | awk '$5 ~ /mountd|status|nlockmgr/ { print $5, $4 }' | sort -u");
        assert_eq!(ports, "mountd 20048\nnlockmgr 32767\nstatus 32765");
        networks::offer(bed, &networks::id_of(bed, "eth1"), &["all"]);
    })
}

/// Shares by NFS and SMB, in a pool of their own.
fn exports(bed: &Bed) -> Check {
    let pool = bed.create_pool("shares", "raid0", &bed.equal_disks(1));
    let (one, two) = (filesystem(bed, &pool, "one"), filesystem(bed, &pool, "two"));
    let path = shares::share(bed, &one, shares::nfs(&["10.78.1.2"]))["name"].as_str().unwrap().to_owned();
    let smb = serde_json::json!({"share_type": "smb"});
    let name = shares::share(bed, &two, smb)["name"].as_str().unwrap().to_owned();
    bed.shell(&format!("echo kept > {path}/f; echo kept > /vsnap/vpool{pool}/fs{two}/f"));
    Box::new(move |bed| {
        let login = shares::login();
        wait_until("the exports are back", 60, || shares::exported_to(bed, &path) == ["10.78.1.2"]);
        let _clients = shares::clients(bed);
        assert!(shares::mount(bed, 1, "4.2", &path));
        assert_eq!(bed.shell("cat /mnt/c1/f"), "kept");
        wait_until("SMB is back", 60, || shares::smb(bed, &login, &name, "get f kept").0);
        assert_eq!(bed.shell("cat /tmp/kept"), "kept");
        bed.delete(&format!("/api/pool/{pool}")).ok();
        assert_eq!(shares::exported_to(bed, &path), Vec::<String>::new());
        assert!(!shares::smb(bed, &login, &name, "ls").0);
    })
}
