//! Which service is reachable through which interface, seen from a second network: a namespace of the appliance's kernel
//! that is joined to it by a pair of virtual cards, whose outer end is an interface of the appliance.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    bed::{Afterwards, Bed},
    shares,
    volumes::filesystem,
    wait::wait_until,
};

/// MAC of the outer end, without separators.
const OUTER: &str = "027603000001";
/// The outer end's addresses, and that of another interface of the appliance, which packets reach through the outer end.
const ADDRESSES: [&str; 3] = ["10.78.0.1", "fd78::1", "10.77.0.1"];
/// What listens where: API, SSH, NFS with its helpers, SMB, iSCSI.
const PORTS: [(&str, &[u16]); 5] = [
    ("mgmt", &[8900]),
    ("ssh", &[22]),
    ("nfs", &[2049, 111, 20048, 32765, 32767]),
    ("smb", &[445, 139]),
    ("iscsi", &[3260]),
];

/// Makes the second network. Something listens on the port of iSCSI, whether or not there is a target.
fn second_network(bed: &Bed) -> Afterwards<'_> {
    let clean = "vsnap network update 027603000001 --services all; ip netns pids client 2>/dev/null | xargs -r kill -9; ip netns del client; ip link del outer0; \
                 nft delete table inet stranger; systemctl stop vsnap-test-iscsi; \
                 vsnap network update eth1 --services all; vsnap network update eth0 --services all; true";
    bed.try_shell(clean);
    let afterwards = bed.afterwards(clean);
    bed.shell(
        "rpcinfo -p | grep -q 32767 || systemctl restart rpc-statd nfs-server; ip netns add client \
         && ip link add outer0 address 02:76:03:00:00:01 type veth peer name inner0 netns client \
         && ip address add 10.78.0.1/24 dev outer0 && ip address add fd78::1/64 dev outer0 nodad && ip link set outer0 up \
         && ip -n client address add 10.78.0.2/24 dev inner0 && ip -n client address add fd78::2/64 dev inner0 nodad \
         && ip -n client link set inner0 up && ip -n client route add default via 10.78.0.1 \
         && systemd-run -q --collect --unit=vsnap-test-iscsi \
            systemd-socket-activate -l '[::]:3260' --accept --inetd /bin/cat",
    );
    afterwards
}

/// `address:port` of all that can be reached from the second network.
fn reached(bed: &Bed) -> BTreeSet<String> {
    let ports: Vec<String> = PORTS.iter().flat_map(|(_, ports)| *ports).map(u16::to_string).collect();
    let (addresses, ports) = (ADDRESSES.join(" "), ports.join(" "));
    let probe = format!(
        "ip netns exec client bash -c 'for a in {addresses}; do for p in {ports}; do \
         (exec 3<>/dev/tcp/$a/$p) 2>/dev/null && echo $a:$p; done; done; true'"
    );
    bed.shell(&probe).lines().map(str::to_owned).collect()
}

/// Interfaces on which the API listens, one by one; an empty name stands for all of them at once.
fn api_listens(bed: &Bed) -> BTreeSet<String> {
    let sockets = bed.shell("ss -Hltnp 'sport = :8900' | grep vsnapd");
    let addresses = sockets.lines().filter_map(|line| line.split_whitespace().nth(3));
    let interface = |address: &str| {
        let bound = address.split_once('%').map_or("", |(_, bound)| bound);
        bound.split([':', ']']).next().unwrap_or_default().to_owned()
    };
    addresses.map(interface).collect()
}

/// What has to be reached when these are offered.
fn expected(services: &[&str]) -> BTreeSet<String> {
    let ssh = services.contains(&"mgmt") || services.contains(&"repl");
    let offered = PORTS.iter().filter(|(service, _)| services.contains(service) || (*service == "ssh" && ssh));
    let ports: Vec<u16> = offered.flat_map(|(_, ports)| ports.iter().copied()).collect();
    ADDRESSES.iter().flat_map(|address| ports.iter().map(move |port| format!("{address}:{port}"))).collect()
}

pub fn offer(bed: &Bed, id: &str, services: &[&str]) -> Value {
    bed.put(&format!("/api/network/{id}"), json!({ "services": services })).ok()
}

pub fn id_of(bed: &Bed, name: &str) -> String {
    bed.get(&format!("/api/network?name={name}")).ok()["id"].as_str().unwrap().to_owned()
}

/// Tables of the packet filter, without the handles that each loading changes.
pub fn table(bed: &Bed, name: &str) -> Option<String> {
    let output = bed.try_shell(&format!("nft list table inet {name}"));
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

const ALL: [&str; 5] = ["mgmt", "nfs", "smb", "iscsi", "repl"];

#[test]
fn services_are_reachable_where_they_are_offered() {
    let bed = Bed::fresh();
    let _clean = second_network(&bed);
    bed.shell("nft 'add table inet stranger; add chain inet stranger c { type filter hook input priority 10; }; add rule inet stranger c tcp dport 9 drop'");
    let stranger = table(&bed, "stranger");
    assert_eq!((table(&bed, "vsnap"), reached(&bed)), (None, expected(&ALL)));
    assert_eq!(api_listens(&bed), ["".to_owned()].into(), "everywhere");

    for services in [&["nfs"][..], &["smb", "repl"], &["iscsi"], &["mgmt"]] {
        assert_eq!(offer(&bed, OUTER, services)["services"], json!(services));
        assert_eq!(reached(&bed), expected(services), "{services:?}");
        let listens = api_listens(&bed);
        assert_eq!((listens.contains("outer0"), listens.contains("")), (false, services == ["mgmt"]), "{listens:?}");
        assert!(
            services == ["mgmt"] || ["lo", "eth0", "eth1"].iter().all(|name| listens.contains(*name)),
            "{listens:?}"
        );
        let udp = bed.try_shell("ip netns exec client timeout 10 rpcinfo -u 10.78.0.1 rpcbind").status.success();
        assert_eq!(udp, services.contains(&"nfs"), "rpcbind by UDP, {services:?}");
    }
    // Each interface has its own; this test comes in through eth0.
    offer(&bed, &id_of(&bed, "eth0"), &["mgmt", "repl"]);
    assert_eq!(reached(&bed), expected(&["mgmt"]));
    assert!(!bed.shell("nft list table inet vsnap").contains("lo\""), "the loopback is never closed");
    bed.shell("curl -sk -o /dev/null https://127.0.0.1:8900/ && echo | timeout 5 bash -c 'exec 3<>/dev/tcp/::1/445'");
    offer(&bed, &id_of(&bed, "eth0"), &["all"]);

    // The request that takes the API from its own interface is answered, and the next one is refused.
    let (user, password) = bed.credentials();
    let curl = format!("ip netns exec client curl -sk -m 20 -u '{user}:{password}'");
    let address = format!("'https://[fd78::1]:8900/api/network/{OUTER}'");
    let answer = bed.shell_json(&format!(r#"{curl} -X PUT -d '{{"services": ["iscsi"]}}' {address}"#));
    assert_eq!(answer["services"], json!(["iscsi"]));
    let refused = bed.try_shell(&format!("{curl} {address}"));
    assert_eq!(refused.status.code(), Some(7), "curl can't connect");

    // A session with a data service ends when that is taken away.
    bed.shell(
        "rm -f /run/cut; (ip netns exec client timeout 60 bash -c \
         'exec 3<>/dev/tcp/10.78.0.1/3260; echo x >&3; read -u 3 && touch /run/up; \
          while echo x >&3 && read -t 5 -u 3; do sleep 0.1; done; touch /run/cut' >/dev/null 2>&1 &)",
    );
    wait_until("the session is up", 60, || bed.try_shell("test -e /run/up").status.success());
    offer(&bed, OUTER, &["nfs"]);
    wait_until("the session is cut", 60, || bed.try_shell("rm /run/cut && rm /run/up").status.success());

    offer(&bed, OUTER, &["all", "nfs"]);
    assert_eq!((table(&bed, "vsnap"), reached(&bed)), (None, expected(&ALL)));
    assert_eq!(table(&bed, "stranger"), stranger, "a stranger's table was touched");
}

#[test]
fn bad_input_and_the_last_management_change_nothing() {
    let bed = Bed::fresh();
    let _clean = second_network(&bed);
    let (eth0, eth1) = (id_of(&bed, "eth0"), id_of(&bed, "eth1"));
    offer(&bed, OUTER, &["nfs"]);
    offer(&bed, &eth1, &["smb", "iscsi"]);
    let state = |bed: &Bed| (bed.get("/api/network").ok(), table(bed, "vsnap"));
    let before = state(&bed);
    let path = format!("/api/network/{eth0}");
    for services in [json!([]), json!(["nfs", "ftp"]), json!("nfs"), json!([7]), json!(["nfs\"; flush ruleset #"])] {
        let message = bed.put(&path, json!({ "services": services.clone() })).fails(400, "InvalidParameterError");
        assert!(message.starts_with("services"), "{services}: {message}");
    }
    bed.put("/api/network/0123456789ab", json!({ "services": ["all"] })).fails(404, "NotFoundError");
    let message = bed.put(&path, json!({ "services": ["nfs", "repl"] })).fails(409, "InvalidStateError");
    assert!(message.contains("eth0 is the last one"), "{message}");
    let cli = bed.try_shell("vsnap network update eth0 --services nfs");
    assert_eq!(cli.status.code(), Some(1));
    assert_eq!(state(&bed), before);
    // An interface that has mgmt but no address any more is none that anybody could use.
    offer(&bed, OUTER, &["mgmt"]);
    bed.shell("ip address flush dev outer0");
    bed.put(&path, json!({ "services": ["nfs", "repl"] })).fails(409, "InvalidStateError");
}

#[test]
fn rules_come_back_whatever_happens() {
    let bed = Bed::fresh();
    let _clean = second_network(&bed);
    offer(&bed, &id_of(&bed, "eth1"), &["mgmt", "nfs"]);
    // The daemon is killed while services change: afterwards the rules are those of what it shows.
    for (round, services) in [["nfs", "smb"], ["mgmt", "repl"], ["iscsi", "smb"]].into_iter().enumerate() {
        bed.shell(&format!(
            "vsnap network update {OUTER} --services {} >/dev/null 2>&1 & sleep 0.{round}; \
             systemctl kill -s KILL vsnapd; wait",
            services.join(",")
        ));
        bed.wait_for_api();
        let shown = bed.get(&format!("/api/network/{OUTER}")).ok();
        let shown: Vec<&str> =
            shown["services"].as_array().unwrap().iter().map(|service| service.as_str().unwrap()).collect();
        assert_eq!(reached(&bed), expected(&shown), "killed while {services:?} were set");
    }
    // By a stranger's hand, with the daemon up: upkeep sees it.
    offer(&bed, OUTER, &["smb"]);
    let rules = table(&bed, "vsnap");
    bed.while_upkeep_waits(|| {
        bed.shell("nft flush chain inet vsnap input");
        // All but the API, which does not listen there.
        assert_eq!(reached(&bed), expected(&["nfs", "smb", "iscsi", "repl"]));
    });
    wait_until("upkeep brings the rules back", 100, || table(&bed, "vsnap") == rules);
    // It looks once more before it tells.
    wait_until("it is told", 60, || {
        let told = "not as it should be: through outer0 only smb";
        let log = format!("journalctl --sync; journalctl -u vsnapd -o cat -n 50 | grep -q '{told}'");
        bed.try_shell(&log).status.success()
    });
    let listing = bed.shell("nft -a list table inet vsnap");
    // Another name, and the table gone, at the next start.
    bed.shell(
        "ip link set outer0 down; ip link set outer0 name outer7; ip link set outer7 up; nft delete table inet vsnap",
    );
    bed.shell("ip address add fd78::1/64 dev outer7 nodad; systemctl restart vsnapd");
    bed.wait_for_api();
    assert_eq!(reached(&bed), expected(&["smb"]));
    assert!(bed.shell("nft -a list table inet vsnap") != listing);
    offer(&bed, OUTER, &["all"]);
    bed.shell("ip link del outer7");
    bed.shell(&format!("! vsnap network update {OUTER} --services all"));
    offer(&bed, &id_of(&bed, "eth1"), &["all"]);
}

/// Addresses at which a port is listened on.
pub fn listens(bed: &Bed, port: u16) -> BTreeSet<String> {
    let sockets = bed.shell(&format!("ss -Hltn 'sport = :{port}' | awk '{{ print $4 }}'"));
    sockets.lines().map(|socket| socket.rsplit_once(':').unwrap().0.trim_matches(['[', ']']).to_owned()).collect()
}

/// Whether these servers listen on all addresses of the appliance.
fn listen_everywhere(bed: &Bed) -> bool {
    [2049, 445].into_iter().all(|port| listens(bed, port).iter().any(|address| address == "0.0.0.0" || address == "*"))
}

#[test]
fn servers_listen_on_the_interfaces_that_have_their_service() {
    let bed = Bed::fresh();
    let _clean = second_network(&bed);
    let pool = bed.create_pool("shares", "raid0", &bed.equal_disks(1));
    let [one, two] = ["one", "two"].map(|name| filesystem(&bed, &pool, name));
    let path = shares::share(&bed, &one, shares::nfs(&["10.78.0.0/24"]))["name"].as_str().unwrap().to_owned();
    let name = shares::share(&bed, &two, json!({"share_type": "smb"}))["name"].as_str().unwrap().to_owned();
    assert!(listen_everywhere(&bed));
    // A client of an interface that keeps its service comes through with what it has mounted.
    let _mounted = bed.afterwards("umount -fl /mnt/second; rmdir /mnt/second; true");
    bed.shell(&format!(
        "echo kept >{path}/f; mkdir -p /mnt/second; nsenter --net=/run/netns/client \
         mount -t nfs -o vers=4.2 10.78.0.1:{path} /mnt/second; grep -q kept /mnt/second/f"
    ));
    let eth1 = id_of(&bed, "eth1");
    let servers = "systemctl show -p ExecMainStartTimestampMonotonic --value nfs-server smbd | grep .";
    let before = bed.shell(servers);
    offer(&bed, &eth1, &["mgmt", "iscsi", "repl"]);
    for port in [2049, 445] {
        let addresses = listens(&bed, port);
        let here = ["127.0.0.1", "::1", "10.0.2.15", "10.78.0.1", "fd78::1"];
        assert!(here.iter().all(|address| addresses.contains(*address)), "port {port}: {addresses:?}");
        assert!(!["10.77.0.1", "0.0.0.0", "::", "*"].iter().any(|it| addresses.contains(*it)), "{port}: {addresses:?}");
    }
    bed.shell("timeout 150 sh -c 'cat /mnt/second/f; echo more >/mnt/second/g; sync /mnt/second/g'");
    assert_eq!(bed.shell(&format!("cat {path}/g")), "more");
    assert!(shares::smb(&bed, &shares::login(), &name, "ls").0);
    // They were restarted once, and by nothing that changes nothing for them.
    let after = bed.shell(servers);
    assert!(before.lines().zip(after.lines()).all(|(before, after)| before != after), "{before}\n{after}");
    offer(&bed, &eth1, &["mgmt", "iscsi"]);
    bed.shell("sleep 15");
    assert_eq!(bed.shell(servers), after);
    // An address that comes to an interface with the service, and a server that somebody tells otherwise.
    bed.shell(
        "ip address add 10.78.5.1/24 dev outer0; rm /etc/nfs.conf.d/vsnap-listen.conf; systemctl restart nfs-server",
    );
    for port in [2049, 445] {
        wait_until("upkeep has it listened on", 180, || {
            let addresses = listens(&bed, port);
            addresses.contains("10.78.5.1") && !addresses.contains("10.77.0.1") && !addresses.contains("0.0.0.0")
        });
    }
    offer(&bed, &eth1, &["all"]);
    assert!(listen_everywhere(&bed));
    bed.shell("! ls /etc/nfs.conf.d/vsnap-listen.conf /etc/samba/vsnap-listen.conf 2>/dev/null");
    bed.shell("timeout 150 grep -q kept /mnt/second/f");
}
