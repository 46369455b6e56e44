//! Changes of network services that are stopped on their way.

use vsnap::{
    os::listen::Listen,
    types::network::{Interface, Services},
};

use crate::{
    appliance::{Appliance, caller},
    hosts,
    scenarios::Scenario,
    share_scenarios::with_shares,
};

const OTHER: &str = "005056b45303";

fn with_two_interfaces(appliance: &Appliance) {
    appliance.fake.world().interfaces.push(Interface {
        id: OTHER.to_owned(),
        name: "ens224".to_owned(),
        hw_addr: OTHER.to_owned(),
        ip4_addrs: vec![[10, 0, 0, 1].into()],
        ip6_addrs: vec!["fd78::1".parse().unwrap(), "fe80::1".parse().unwrap()],
    });
    hosts::create(appliance, "host", &["a"]);
}

fn offer(appliance: &Appliance, words: &[&str]) {
    let _ = appliance.engine().update_network(&caller(), OTHER, Services::read(words).unwrap());
}

pub fn take_services() -> Scenario {
    Scenario {
        name: "network services taken",
        prepare: with_two_interfaces,
        work: |appliance| offer(appliance, &["nfs", "repl"]),
    }
}

pub fn change_services() -> Scenario {
    Scenario {
        name: "network services changed",
        prepare: |appliance| {
            with_two_interfaces(appliance);
            offer(appliance, &["smb"]);
            // Their servers are restarted.
            with_shares(appliance);
        },
        work: |appliance| offer(appliance, &["mgmt", "iscsi"]),
    }
}

pub fn give_services() -> Scenario {
    Scenario {
        name: "network services given",
        prepare: |appliance| {
            with_two_interfaces(appliance);
            offer(appliance, &["smb"]);
        },
        work: |appliance| offer(appliance, &["all"]),
    }
}

pub fn take_services_that_fails() -> Scenario {
    Scenario {
        name: "network services that the packet filter refuses",
        prepare: |appliance| {
            with_two_interfaces(appliance);
            appliance.refuse("apply_networks");
        },
        work: |appliance| offer(appliance, &["nfs"]),
    }
}

#[test]
fn what_a_stranger_took_away_is_brought_back() {
    let appliance = Appliance::new();
    with_two_interfaces(&appliance);
    offer(&appliance, &["nfs"]);
    let applied = appliance.fake.world().exports.networks.clone();
    assert_eq!(applied.interfaces[0].interface, "ens224");
    appliance.fake.world().exports.networks = Default::default();
    appliance.engine().upkeep().unwrap();
    assert_eq!(appliance.fake.world().exports.networks, applied);
}

#[test]
fn an_interface_is_followed_to_its_new_name_and_waited_for_when_it_is_gone() {
    let mut appliance = Appliance::new();
    with_two_interfaces(&appliance);
    offer(&appliance, &["nfs"]);
    let closed = |appliance: &Appliance| {
        let world = appliance.fake.world();
        world.exports.networks.interfaces.iter().map(|closed| closed.interface.clone()).collect::<Vec<_>>()
    };
    appliance.fake.world().interfaces[1].name = "lan1".to_owned();
    appliance.engine().upkeep().unwrap();
    assert_eq!(closed(&appliance), ["lan1"]);
    // Pulled out, then there again after a start: closed from its first moment on.
    let interface = appliance.fake.world().interfaces.pop().unwrap();
    appliance.kill();
    appliance.fake.world().reboot();
    appliance.start();
    assert_eq!(closed(&appliance), ["lan1"]);
    // Its name is another one's now.
    let other = Interface { id: "0123456789ab".to_owned(), ..interface };
    appliance.fake.world().interfaces.push(other);
    appliance.engine().upkeep().unwrap();
    assert_eq!(closed(&appliance), [""; 0]);
}

#[test]
fn the_target_listens_where_it_is_offered_and_follows_addresses() {
    let appliance = Appliance::new();
    with_two_interfaces(&appliance);
    assert_eq!(appliance.portals(), ["[::]:3260"]);
    offer(&appliance, &["mgmt", "nfs"]);
    assert_eq!(appliance.portals(), ["172.20.46.61:3260"]);
    // By DHCP another one, and one of IPv6 beside it.
    {
        let mut world = appliance.fake.world();
        world.interfaces[0].ip4_addrs = vec![[172, 20, 46, 62].into()];
        world.interfaces[0].ip6_addrs.push("2001:db8::62".parse().unwrap());
    }
    appliance.engine().upkeep().unwrap();
    assert_eq!(appliance.portals(), ["172.20.46.62:3260", "[2001:db8::62]:3260"]);
    offer(&appliance, &["iscsi"]);
    assert_eq!(appliance.portals(), ["[::]:3260"]);
}

#[test]
fn servers_listen_where_they_are_offered_while_they_serve() {
    let appliance = Appliance::new();
    with_two_interfaces(&appliance);
    let listens = |appliance: &Appliance| {
        let exports = appliance.fake.world().exports.clone();
        (exports.nfs_listens, exports.smb_listens)
    };
    let not_there = Listen::NotOn(["10.0.0.1", "fd78::1"].map(|address| address.parse().unwrap()).into());
    offer(&appliance, &["mgmt", "nfs"]);
    assert_eq!(listens(&appliance), (Listen::Everywhere, Listen::Everywhere), "nothing is served");
    with_shares(&appliance);
    assert_eq!(listens(&appliance), (Listen::Everywhere, not_there.clone()));
    offer(&appliance, &["mgmt", "smb"]);
    assert_eq!(listens(&appliance), (not_there, Listen::Everywhere));
    // An address that both interfaces have is that of one that offers it.
    let shared = appliance.fake.world().interfaces[0].ip4_addrs.clone();
    appliance.fake.world().interfaces[1].ip4_addrs = shared;
    appliance.engine().upkeep().unwrap();
    assert_eq!(listens(&appliance).0, Listen::NotOn(["fd78::1".parse().unwrap()].into()));
    appliance.fake.world().interfaces.pop();
    appliance.engine().upkeep().unwrap();
    assert_eq!(listens(&appliance).0, Listen::NotOn([].into()), "it may come back");
}

#[test]
fn a_target_without_addresses_gets_them_when_they_come() {
    let appliance = Appliance::new();
    with_two_interfaces(&appliance);
    offer(&appliance, &["nfs"]);
    let addresses = std::mem::take(&mut appliance.fake.world().interfaces[0].ip4_addrs);
    appliance.engine().upkeep().unwrap();
    assert_eq!(appliance.portals(), [""; 0]);
    appliance.fake.world().interfaces[0].ip4_addrs = addresses;
    appliance.engine().upkeep().unwrap();
    assert_eq!(appliance.portals(), ["172.20.46.61:3260"]);
}
