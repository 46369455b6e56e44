//! Clients that run where the tests run, and not on the appliance: `libnfs`, `libiscsi` by its tools and by QEMU, and
//! `smbclient`. To a virtual appliance they come through forwarded ports, so that for it they are 10.0.2.2 with a port
//! of any number.

use std::process::{Command, Output};

use serde_json::json;

use crate::{
    bed::{Bed, port},
    shares::{login, share},
    volumes::{filesystem, id, lun, pool},
};

const IQN: &str = "iqn.1994-05.com.example:outside";

/// Runs a program here.
fn run(program: &str, args: &[&str]) -> Output {
    Command::new("timeout").args(["60", program]).args(args).output().unwrap()
}

/// Runs a program that must succeed, and gives what it printed.
#[track_caller]
fn works(program: &str, args: &[&str]) -> Vec<u8> {
    let output = run(program, args);
    let (told, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {args:?}: {}\n{told}\n{said}", output.status);
    output.stdout
}

/// A file of 3 MiB and a bit, that is no two bytes alike, and a folder for what comes back.
fn data() -> (tempfile::TempDir, String, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> =
        (0..3_200_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
    let bytes = bytes[..(3 << 20) + 1000].to_vec();
    let path = folder.path().join("data").to_str().unwrap().to_owned();
    std::fs::write(&path, &bytes).unwrap();
    (folder, path, bytes)
}

#[test]
fn libnfs_writes_and_reads() {
    let bed = Bed::fresh();
    let pool = pool(&bed);
    let volume = filesystem(&bed, &pool, "nfs");
    let hosts = |hosts: &[&str]| json!({"share_type": "nfs", "share_options": {"allowed_hosts": hosts}});
    let share = share(&bed, &volume, hosts(&["all"]));
    let path = share["name"].as_str().unwrap();
    let url = |file: &str| {
        let (address, port) = port("NFS");
        format!("nfs://{address}{path}/{file}?version=4&nfsport={port}")
    };
    let (folder, _, _) = data();
    // The nfs-cp of libnfs 4.0.0 fails to write 4 KiB or more by NFS 4, also to an export made by hand; it reads any size.
    let note = folder.path().join("note");
    std::fs::write(&note, "x\n").unwrap();
    works("nfs-cp", &[note.to_str().unwrap(), &url("note")]);
    assert_eq!(
        (works("nfs-cat", &[&url("note")]), bed.shell(&format!("cat {path}/note"))),
        (b"x\n".to_vec(), "x".into())
    );
    let sum = bed.shell(&format!("head -c 3M /dev/urandom > {path}/data; sha256sum < {path}/data"));
    let back = folder.path().join("back").to_str().unwrap().to_owned();
    works("nfs-cp", &[&url("data"), &back]);
    let here = works("sh", &["-c", &format!("sha256sum < {back}")]);
    assert_eq!(String::from_utf8(here).unwrap().trim(), sum, "other bytes came back");
    let list = String::from_utf8(works("nfs-ls", &[&url("")])).unwrap();
    assert!(list.lines().any(|line| line.ends_with("data") && line.contains("3145728")), "{list}");
    // Somebody else is allowed, and so this one is not.
    bed.put(&format!("/api/volume/{volume}/share"), hosts(&["192.0.2.1"])).ok();
    assert!(!run("nfs-cat", &[&url("data")]).status.success());
}

#[test]
fn smbclient_writes_and_reads_back() {
    let bed = Bed::fresh();
    let pool = pool(&bed);
    let volume = filesystem(&bed, &pool, "smb");
    let name = share(&bed, &volume, json!({"share_type": "smb"}))["name"].as_str().unwrap().to_owned();
    let (folder, file, bytes) = data();
    let back = folder.path().join("back");
    let (address, port) = port("SMB");
    let smb = |login: &str| {
        let commands = format!("put {file} data; get data {}; ls", back.display());
        run(
            "smbclient",
            &["-U", login, "-p", &port, "--client-protection=encrypt", &format!("//{address}/{name}"), "-c", &commands],
        )
    };
    let output = smb(&login());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(std::fs::read(&back).unwrap() == bytes, "other bytes came back");
    assert!(!smb(&format!("{}x", login())).status.success(), "a wrong password");
}

#[test]
fn libiscsi_writes_and_reads_back() {
    let bed = Bed::fresh();
    let pool = pool(&bed);
    let volume = lun(&bed, &pool, "disk", 16 << 20);
    let serial = bed.get(&format!("/api/volume/{volume}")).ok()["serial"].as_str().unwrap().to_owned();
    let host = id(&bed.post("/api/host", json!({"name": "outside", "iqns": [IQN]})).ok());
    bed.post(&format!("/api/volume/{volume}/map"), json!({"host_id": host})).ok();
    let target = bed.get("/api/target").ok()["targets"][0]["wwn"].as_str().unwrap().to_owned();
    let (address, port) = port("ISCSI");
    let portal = format!("{address}:{port}");
    let lun = format!("iscsi://{portal}/{target}/0");
    let list = String::from_utf8(works("iscsi-ls", &["-i", IQN, &format!("iscsi://{portal}")])).unwrap();
    assert!(list.contains(&target), "{list}");
    // Also when the target has single addresses as portals: this comes in by eth0.
    let services = |services: &str| bed.shell(&format!("vsnap network update eth1 --services {services}"));
    let _all = bed.afterwards("vsnap network update eth1 --services all");
    services("mgmt,nfs,smb,repl");
    let inquiry = String::from_utf8(works("iscsi-inq", &["-i", IQN, &lun])).unwrap();
    assert!(inquiry.contains("VSNAP"), "{inquiry}");
    let page = String::from_utf8(works("iscsi-inq", &["-i", IQN, "-e", "1", "-c", "128", &lun])).unwrap();
    assert!(page.contains(&serial), "{page}");
    assert!(!run("iscsi-inq", &["-i", "iqn.1994-05.com.example:stranger", &lun]).status.success());
    services("all");

    let (_folder, file, bytes) = data();
    let image = format!(
        "driver=raw,file.driver=iscsi,file.transport=tcp,file.portal={portal},file.target={target},file.lun=0,\
         file.initiator-name={IQN}"
    );
    works("qemu-io", &["--image-opts", &image, "-c", &format!("write -q -s {file} 0 {}", 3 << 20), "-c", "flush"]);
    let back = format!("{file}.back");
    works("qemu-img", &["convert", "--image-opts", "-O", "raw", &image, &back]);
    let read = std::fs::read(&back).unwrap();
    assert_eq!(read.len(), 16 << 20);
    assert!(read[..3 << 20] == bytes[..3 << 20], "other bytes came back");
    let inside = bed.shell(&format!("head -c 3M /dev/zvol/vpool{pool}/lun{volume} | sha256sum"));
    let here = works("sh", &["-c", &format!("head -c 3M {file} | sha256sum")]);
    assert_eq!(inside, String::from_utf8(here).unwrap().trim());
    bed.delete(&format!("/api/host/{host}")).ok();
}
