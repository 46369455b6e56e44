//! Contract section 8: volumes on a real pool, with real bytes.

use serde_json::{Value, json};

use crate::{bed::Bed, shares, wait::wait_until};

const MIB: u64 = 1 << 20;

/// A pool that the volumes of a test are in.
pub fn pool(bed: &Bed) -> String {
    bed.create_pool("volumes", "raid0", &bed.equal_disks(2))
}

pub fn create(bed: &Bed, body: Value) -> Value {
    bed.post("/api/volume", body).ok()
}

pub fn filesystem(bed: &Bed, pool: &str, name: &str) -> String {
    id(&create(bed, json!({"name": name, "volume_type": "filesystem", "pool_id": pool})))
}

pub fn lun(bed: &Bed, pool: &str, name: &str, bytes: u64) -> String {
    id(&create(bed, json!({"name": name, "volume_type": "lun", "pool_id": pool, "size_total": bytes.to_string()})))
}

pub fn clone(bed: &Bed, snapshot: &str, name: &str) -> String {
    id(&create(bed, json!({"name": name, "snapshot_id": snapshot})))
}

pub fn snapshot(bed: &Bed, volume: &str, body: Value) -> String {
    id(&bed.post(&format!("/api/volume/{volume}/snapshot"), body).ok())
}

pub fn id(object: &Value) -> String {
    object["id"].as_str().unwrap_or_else(|| panic!("no id in {object}")).to_owned()
}

fn number(value: &Value) -> u64 {
    value.as_str().unwrap_or_else(|| panic!("no number: {value}")).parse().unwrap()
}

/// Datasets of a pool as ZFS has them, without the pool itself.
fn datasets(bed: &Bed, pool: &str) -> Vec<String> {
    let listed = bed.shell(&format!("zfs list -H -o name -t all -r vpool{pool} | tail -n +2"));
    listed.lines().map(str::to_owned).collect()
}

#[test]
fn data_is_landed_snapshotted_cloned_and_read_back() {
    let bed = Bed::fresh();
    let pool = pool(&bed);
    let volume = filesystem(&bed, &pool, "landing zone $(reboot) ü");
    let folder = format!("/vsnap/vpool{pool}/fs{volume}");
    bed.shell(&format!(
        "dd if=/dev/urandom of={folder}/a bs=1M count=20 status=none; mkdir {folder}/d; echo old > {folder}/d/b"
    ));
    let old = bed.shell(&format!("cd {folder} && find . -type f | sort | xargs sha256sum"));
    let snapshot = snapshot(&bed, &volume, json!({"name": "before"}));
    bed.shell(&format!(
        "dd if=/dev/urandom of={folder}/a bs=1M count=5 conv=notrunc status=none; rm {folder}/d/b; touch {folder}/new"
    ));
    assert_ne!(bed.shell(&format!("cd {folder} && find . -type f | sort | xargs sha256sum")), old);

    let clone = clone(&bed, &snapshot, "copy");
    let copy = format!("/vsnap/vpool{pool}/fs{clone}");
    assert_eq!(
        bed.shell(&format!("cd {copy} && find . -type f | sort | xargs sha256sum")),
        old,
        "the clone has the old bytes"
    );
    bed.shell(&format!("echo mine > {copy}/written-to-the-clone"));
    let detail = bed.get(&format!("/api/volume/{clone}")).ok();
    assert_eq!((&detail["is_clone"], &detail["snapshot_id"]), (&json!(true), &json!(snapshot)));
    assert_eq!(bed.get(&format!("/api/snapshot/{snapshot}")).ok()["has_clones"], true);

    let message = bed.delete(&format!("/api/volume/{volume}")).fails(409, "BusyError");
    assert!(message.contains("copy"), "{message}");
    let message = bed.delete(&format!("/api/snapshot/{snapshot}")).fails(409, "BusyError");
    assert!(message.contains("copy"), "{message}");
    bed.delete(&format!("/api/volume/{clone}")).ok();
    bed.delete(&format!("/api/volume/{volume}")).ok();
    assert_eq!(datasets(&bed, &pool), Vec::<String>::new());
    assert_eq!(bed.get("/api/snapshot").ok(), json!({"snapshots": [], "total": 0}));
    assert_eq!(bed.get("/api/volume").ok(), json!({"volumes": [], "total": 0}));
}

/// Somebody has a device open from now on, until `pkill -x sleep`.
fn hold_open(bed: &Bed, device: &str) {
    bed.shell(&format!("exec 3<{device}; sleep 120 >/dev/null 2>&1 &"));
}

#[test]
fn a_lun_is_a_sparse_zvol_that_keeps_its_bytes() {
    let bed = Bed::fresh();
    let pool = pool(&bed);
    let body = json!({"name": "disk", "volume_type": "lun", "pool_id": pool, "size_total": 64 * MIB + 1, "size_block": "4096"});
    let detail = create(&bed, body);
    let (volume, size) = (id(&detail), 64 * MIB + 4096);
    assert_eq!(number(&detail["size_total"]), size, "rounded up to whole blocks");
    let dataset = format!("vpool{pool}/lun{volume}");
    assert_eq!(bed.zfs_property(&dataset, "volsize"), size.to_string());
    assert_eq!(bed.zfs_property(&dataset, "volblocksize"), "4096");
    assert_eq!(bed.zfs_property(&dataset, "refreservation"), "0", "sparse");
    assert_eq!(bed.zfs_property(&dataset, "vsnap:serial"), detail["serial"].as_str().unwrap());
    let device = format!("/dev/zvol/{dataset}");
    bed.shell(&format!("dd if=/dev/urandom of={device} bs=1M count=10 conv=fsync status=none"));
    let old = bed.shell(&format!("sha256sum < {device}"));
    let snapshot = snapshot(&bed, &volume, json!({}));
    bed.shell(&format!("dd if=/dev/zero of={device} bs=1M count=10 conv=fsync status=none"));
    let clone = clone(&bed, &snapshot, "disk copy");
    assert_eq!(bed.shell(&format!("sha256sum < /dev/zvol/vpool{pool}/lun{clone}")), old);
    let copy = bed.get(&format!("/api/volume/{clone}")).ok();
    assert_ne!(copy["serial"], detail["serial"], "an initiator must not take the clone for the original");
    assert_eq!(number(&copy["size_total"]), size);

    // It grows, and never shrinks.
    let path = format!("/api/volume/{volume}");
    bed.put(&path, json!({"size_total": 32 * MIB})).fails(400, "InvalidParameterError");
    let grown = bed.put(&path, json!({"size_total": 128 * MIB, "name": "larger", "compression": false})).ok();
    assert_eq!((number(&grown["size_total"]), &grown["name"]), (128 * MIB, &json!("larger")));
    assert_eq!(bed.shell(&format!("blockdev --getsize64 {device}")), (128 * MIB).to_string());
    assert_eq!(bed.zfs_property(&dataset, "compression"), "off");

    // Somebody has it open: refused in bounded time, and nothing is lost.
    hold_open(&bed, &format!("/dev/zvol/vpool{pool}/lun{clone}"));
    bed.delete(&format!("/api/volume/{clone}")).fails(409, "BusyError");
    assert_eq!(bed.get(&format!("/api/volume/{clone}")).ok()["name"], "disk copy");
    assert_eq!(bed.shell(&format!("sha256sum < /dev/zvol/vpool{pool}/lun{clone}")), old);
    bed.shell("pkill -x sleep");
    bed.delete(&format!("/api/volume/{clone}")).ok();
    hold_open(&bed, &device);
    bed.delete(&path).fails(409, "BusyError");
    assert_eq!(bed.get(&format!("/api/snapshot/{snapshot}")).ok()["has_clones"], false, "no snapshot was lost");
    assert!(datasets(&bed, &pool).contains(&format!("{dataset}@snap{snapshot}")));
    bed.shell("pkill -x sleep");
    bed.delete(&path).ok();
    assert_eq!(datasets(&bed, &pool), Vec::<String>::new());
}

#[test]
fn a_file_backs_a_lun() {
    let bed = Bed::fresh();
    let pool = pool(&bed);
    let parent = filesystem(&bed, &pool, "files");
    let folder = format!("/vsnap/vpool{pool}/fs{parent}");
    bed.shell(&format!(
        "cd {folder} && mkdir -p my_files out && truncate -s 10M my_files/file1.img && ln -s /etc/passwd evil && \
         ln -s / away && mkfifo pipe"
    ));
    let ask = |path: &str| {
        bed.post(
            "/api/volume",
            json!({"name": "file", "volume_type": "filebackedlun", "parent_id": parent, "parent_path": path}),
        )
    };
    for path in
        ["", "/etc/passwd", "../x", "a/../../x", "missing", "my_files", "evil", "away/etc/passwd", "pipe", "a\u{0}b"]
    {
        let message = ask(path).fails(400, "InvalidParameterError");
        assert!(message.contains("parent_path"), "{path:?}: {message}");
    }
    assert_eq!(bed.get("/api/volume").ok()["total"], 1);
    let lun = ask("my_files/file1.img").ok();
    assert_eq!((&lun["parent_id"], &lun["parent_path"]), (&json!(parent), &json!("my_files/file1.img")));
    assert!(lun["size_total"].is_null() && lun["size_used"].is_null() && lun["serial"].is_string());
    bed.post("/api/volume", json!({"name": "again", "volume_type": "filebackedlun", "parent_id": parent, "parent_path": "my_files/file1.img"}))
        .fails(409, "AlreadyExistsError");
    let message = bed.delete(&format!("/api/volume/{parent}")).fails(409, "BusyError");
    assert!(message.contains("file"), "{message}");
    bed.delete(&format!("/api/volume/{}", id(&lun))).ok();
    assert_eq!(bed.shell(&format!("stat -c %s {folder}/my_files/file1.img")), (10 * MIB).to_string(), "the file stays");
    bed.delete(&format!("/api/volume/{parent}")).ok();
}

#[test]
fn sizes_are_those_of_the_moment() {
    let bed = Bed::fresh();
    let pool = pool(&bed);
    let volume = filesystem(&bed, &pool, "measured");
    let path = format!("/api/volume/{volume}");
    let before = bed.get(&path).ok();
    assert!(before["size_total"].is_null());
    bed.shell(&format!("dd if=/dev/urandom of=/vsnap/vpool{pool}/fs{volume}/a bs=1M count=30 status=none; zpool sync"));
    let used = |of: &Value| number(&of["size_used"]);
    let (after, list) = (bed.get(&path).ok(), bed.get("/api/volume?sort=-size_used&limit=1").ok());
    assert!(used(&after) >= used(&before) + 30 * MIB && used(&after) < used(&before) + 40 * MIB);
    assert_eq!(used(&list["volumes"][0]), used(&after), "the list has the same sizes");
    assert_eq!(used(&after).to_string(), bed.zfs_property(&format!("vpool{pool}/fs{volume}"), "used"));
    assert_eq!(after["size_free"].as_str().unwrap(), bed.zfs_property(&format!("vpool{pool}/fs{volume}"), "available"));

    bed.put(&path, json!({"size_total": MIB})).fails(400, "InvalidParameterError");
    let limited = bed.put(&path, json!({"size_total": 100 * MIB})).ok();
    assert_eq!(number(&limited["size_total"]), 100 * MIB);
    assert_eq!(number(&limited["size_free"]) + used(&limited), 100 * MIB);
    assert!(
        !bed.try_shell(&format!("dd if=/dev/urandom of=/vsnap/vpool{pool}/fs{volume}/b bs=1M count=90 status=none"))
            .status
            .success()
    );
    let free = bed.put(&path, json!({"size_total": "none"})).ok();
    assert!(free["size_total"].is_null());
    assert_eq!(bed.zfs_property(&format!("vpool{pool}/fs{volume}"), "quota"), "0");
}

/// ZFS keeps a history of each pool, on its disks.
#[test]
fn looking_writes_nothing_to_the_pool() {
    let bed = Bed::fresh();
    let pool = pool(&bed);
    let (volume, lun) = (filesystem(&bed, &pool, "data"), lun(&bed, &pool, "disk", 16 << 20));
    let snapshot = snapshot(&bed, &volume, json!({}));
    let history = || bed.shell(&format!("zpool sync vpool{pool}; zpool history -i vpool{pool}"));
    let paths =
        [format!("volume/{volume}"), format!("volume/{lun}"), format!("snapshot/{snapshot}"), "volume".to_owned()];
    // Upkeep may have something to write meanwhile.
    wait_until("a round of looking writes nothing", 30, || {
        let before = history();
        for path in &paths {
            bed.get(&format!("/api/{path}")).ok();
        }
        history() == before
    });
}

#[test]
fn a_full_pool_says_so_and_can_still_be_emptied() {
    let bed = Bed::fresh();
    let pool = pool(&bed);
    let volume = filesystem(&bed, &pool, "full");
    let folder = format!("/vsnap/vpool{pool}/fs{volume}");
    let snapshot = snapshot(&bed, &volume, json!({}));
    bed.shell(&format!(
        "zfs set compression=off vpool{pool}; dd if=/dev/zero of={folder}/a bs=1M 2>/dev/null || true; zpool sync"
    ));
    // What is left is too little for a volume, sooner or later.
    let refused = (0..40).any(|at| {
        bed.shell(&format!("dd if=/dev/zero of={folder}/b{at} bs=4k 2>/dev/null || true; zpool sync"));
        let answer = bed
            .post("/api/volume", json!({"name": format!("more {at}"), "volume_type": "filesystem", "pool_id": pool}));
        assert!(answer.status == 200 || answer.status == 507, "{}", answer.body);
        answer.status == 507
    });
    assert!(refused, "a full pool still takes volumes");
    bed.delete(&format!("/api/snapshot/{snapshot}")).ok();
    bed.delete(&format!("/api/volume/{volume}")).ok();
    bed.remove_pools();
}

#[test]
fn bad_input_changes_nothing() {
    let bed = Bed::fresh();
    let pool = pool(&bed);
    let volume = filesystem(&bed, &pool, "taken");
    let lun = lun(&bed, &pool, "block", 16 * MIB);
    // Sizes come to rest when the history of what was made is written, too.
    bed.shell(&format!("zpool sync vpool{pool}"));
    let before = (datasets(&bed, &pool), bed.get("/api/volume").ok());
    let with = |member: &str, value: Value| {
        let mut body = json!({"name": "new", "volume_type": "lun", "pool_id": pool, "size_total": MIB});
        body[member] = value;
        body
    };
    let huge = "9223372036854775808";
    let cases = [
        ("size_total", with("size_total", json!(0))),
        ("size_total", with("size_total", json!(-1))),
        ("size_total", with("size_total", json!("1e9"))),
        ("size_total", with("size_total", json!(huge))),
        ("size_total", with("size_total", json!("9223372036854775807"))),
        ("size_total", with("size_total", json!("18446744073709551616"))),
        ("size_total", with("size_total", json!("1099511627776"))),
        ("size_block", with("size_block", json!(3000))),
        ("size_block", with("size_block", json!(0))),
        ("size_block", with("size_block", json!(262_144))),
        ("volume_type", with("volume_type", json!("tape"))),
        ("name", with("name", json!(""))),
        ("name", with("name", json!("n".repeat(257)))),
        ("name", with("name", json!("a\nb"))),
        ("size_total", json!({"name": "new", "volume_type": "lun", "pool_id": pool})),
        ("pool_id", json!({"name": "new", "volume_type": "lun", "size_total": MIB})),
    ];
    for (member, body) in cases {
        let message = bed.post("/api/volume", body.clone()).fails(400, "InvalidParameterError");
        assert!(message.contains(member), "{body}: {message}");
    }
    bed.post("/api/volume", with("name", json!("taken"))).fails(409, "AlreadyExistsError");
    bed.post("/api/volume", with("pool_id", json!(999))).fails(404, "NotFoundError");
    bed.post("/api/volume", json!({"name": "new", "snapshot_id": 999})).fails(404, "NotFoundError");
    bed.put(&format!("/api/volume/{volume}"), json!({"name": "block"})).fails(409, "AlreadyExistsError");
    bed.put(&format!("/api/volume/{lun}"), json!({"size_total": "none"})).fails(400, "InvalidParameterError");
    assert_eq!((datasets(&bed, &pool), bed.get("/api/volume").ok()), before);
}

/// Everything that a rebuild has to bring back: name and id of system and pool, and the details of the rest, without
/// what moves by itself and what is kept in the catalog only.
fn objects(bed: &Bed, pool: &str) -> Vec<Value> {
    let mut all = vec![bed.get("/api/system").ok()["id"].clone(), bed.pool(pool)["name"].clone()];
    for kind in ["volume", "snapshot", "share"] {
        for one in bed.get(&format!("/api/{kind}")).ok()[format!("{kind}s")].as_array().unwrap() {
            let mut detail = bed.get(&format!("/api/{kind}/{}", id(one))).ok();
            for moving in ["size_used", "size_free", "time_updated"] {
                detail.as_object_mut().unwrap().remove(moving);
            }
            for hold in detail["holds"].as_array_mut().into_iter().flatten() {
                hold["user"] = Value::Null;
                hold["time_created"] = Value::Null;
            }
            all.push(detail);
        }
    }
    all
}

/// One filesystem by NFS for a client at 10.78.1.2 and one by SMB, both with a file: path and name.
fn share_two(bed: &Bed, one: &str, two: &str) -> (String, String) {
    let options = json!({"allowed_hosts": ["10.78.1.2", "2001:db8::/32"], "snapshots_visible": true});
    let first = shares::share(bed, one, json!({"share_type": "nfs", "share_options": options}));
    let second = shares::share(bed, two, json!({"share_type": "smb", "share_options": {"read_only": true}}));
    let path = first["name"].as_str().unwrap().to_owned();
    bed.shell(&format!("echo kept > {path}/file; echo kept > $(dirname {path})/fs{two}/file; sync"));
    (path, second["name"].as_str().unwrap().to_owned())
}

/// Clients read what is in them.
fn check_reachable(bed: &Bed, (path, name): &(String, String)) {
    assert_eq!(shares::exported_to(bed, path), ["10.78.1.2", "2001:db8::/32"]);
    {
        let _clients = shares::clients(bed);
        assert!(shares::mount(bed, 1, "4.2", path));
        assert_eq!(bed.shell("cat /mnt/c1/file"), "kept");
    }
    let (done, text) = shares::smb(bed, &shares::login(), name, "get file smb-file");
    assert!(done, "{text}");
    assert_eq!(bed.shell("cat /tmp/smb-file && rm /tmp/smb-file"), "kept");
}

#[test]
fn the_catalog_is_rebuilt_from_the_pools_alone() {
    let bed = Bed::fresh();
    let disks = bed.equal_disks(2);
    let pool = pool(&bed);
    let (volume, lun) = (filesystem(&bed, &pool, "Größe 容量 🦀"), lun(&bed, &pool, "block", 16 * MIB));
    bed.shell(&format!("truncate -s 1M /vsnap/vpool{pool}/fs{volume}/disk.img"));
    create(
        &bed,
        json!({"name": "file lun", "volume_type": "filebackedlun", "parent_id": volume, "parent_path": "disk.img"}),
    );
    let far = bed.shell("date -d '+2 days' +%s");
    let first = snapshot(&bed, &volume, json!({"name": "first", "expires_at": far, "locked": true}));
    let second = snapshot(&bed, &lun, json!({}));
    bed.post(&format!("/api/snapshot/{second}"), json!({"action": "hold", "reason": "legal case ü"})).ok();
    let clone = clone(&bed, &first, "clone");
    bed.put(&format!("/api/volume/{clone}"), json!({"compression": false})).ok();
    let shares = share_two(&bed, &volume, &clone);
    let before = objects(&bed, &pool);
    bed.shell("systemctl stop vsnapd && rm -f /var/lib/vsnap/catalog.sqlite*");
    bed.zpool("export", &format!("vpool{pool}"));
    bed.shell("systemctl start vsnapd");
    bed.wait_for_api();
    assert_eq!(bed.get("/api/volume").ok()["total"], 0);
    // Disks of the machine may have pools of an appliance that it was before.
    let system = before[0].as_str().unwrap();
    let rebuilt = bed.shell_json(&format!("vsnap --json system rebuild-catalog --system-id {system}"));
    let counts = ["pools", "volumes", "snapshots", "shares"].map(|what| rebuilt[what].clone());
    assert_eq!(counts, [1, 4, 2, 2].map(|count| json!(count)), "{rebuilt}");
    assert_eq!(objects(&bed, &pool), before);
    check_reachable(&bed, &shares);
    assert_eq!(bed.get("/api/system/report").ok()["total"], 0);
    // It works on: the lock still holds, and what is made next gets an id that nothing had.
    bed.delete(&format!("/api/volume/{clone}")).ok();
    bed.delete(&format!("/api/snapshot/{first}")).fails(409, "InvalidStateError");
    let next = filesystem(&bed, &pool, "next");
    assert!(next.parse::<i64>().unwrap() > 1000);
    bed.shell("vsnap system rebuild-catalog && exit 1 || exit 0");

    bed.start_over(&pool, &disks);
}

#[test]
fn drift_is_reported_and_nothing_is_adopted() {
    let bed = Bed::fresh();
    let pool = pool(&bed);
    let (gone, kept) = (filesystem(&bed, &pool, "gone"), filesystem(&bed, &pool, "kept"));
    assert_eq!(bed.get("/api/system/report").ok()["total"], 0);
    let mark =
        bed.zfs_property(&format!("vpool{pool}/fs{kept}"), "vsnap:id").replace(&format!("volume/{kept}"), "volume/777");
    bed.shell(&format!(
        "zfs destroy vpool{pool}/fs{gone}; zfs create vpool{pool}/stranger; zfs create -o vsnap:id={mark} vpool{pool}/fs777; \
         zfs set quota=50M vpool{pool}/fs{kept}; zfs snapshot vpool{pool}/fs{kept}@byhand"
    ));
    let report = bed.get("/api/system/report").ok();
    let mut found: Vec<(String, String)> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["kind"].as_str().unwrap().to_owned(), one["subject"].as_str().unwrap().to_owned()))
        .collect();
    found.sort();
    let expected = [
        ("mismatch", format!("volume {kept}")),
        ("object_without_row", format!("vpool{pool}/fs777")),
        ("row_without_object", format!("volume {gone}")),
        ("stranger", format!("vpool{pool}/fs{kept}@byhand")),
        ("stranger", format!("vpool{pool}/stranger")),
    ];
    assert_eq!(found, expected.map(|(kind, subject)| (kind.to_owned(), subject)));
    assert_eq!(bed.get("/api/volume").ok()["total"], 2, "nothing was adopted");
    let message = bed.delete(&format!("/api/volume/{kept}")).fails(409, "BusyError");
    assert!(message.contains("@byhand"), "{message}");
    bed.delete(&format!("/api/volume/{gone}")).ok();
    let message = bed.delete(&format!("/api/pool/{pool}")).fails(409, "BusyError");
    assert!(message.contains("stranger"), "{message}");
    wait_until("the dataset of a stranger is there", 1, || {
        bed.try_shell(&format!("zfs list vpool{pool}/stranger")).status.success()
    });
}
