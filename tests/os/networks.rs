//! The packet filter of services per interface.

use vsnap::{
    os::{InterfaceServices, NetworkServices},
    types::network::Services,
};

use crate::{exports::without_daemon, system::System};

/// About an interface that no machine has.
fn wanted(words: &[&str]) -> NetworkServices {
    let services = Services::read(words).unwrap();
    let interfaces = vec![InterfaceServices { interface: "vsnap-none0".to_owned(), services }];
    NetworkServices { api_ports: vec![8900], interfaces }
}

#[test]
fn only_a_difference_is_applied() {
    without_daemon(differences);
}

fn differences() {
    let exports = System::new().exports;
    let changes = |wanted: &NetworkServices| exports.apply_networks(wanted).unwrap().changes.len();
    changes(&NetworkServices::default());
    assert_eq!(changes(&NetworkServices::default()), 0);
    assert_eq!(changes(&wanted(&["all"])), 0, "what offers everything needs no rules");
    for words in [&["nfs"][..], &["mgmt", "smb"], &["iscsi", "repl"]] {
        assert_eq!(changes(&wanted(words)), 1, "{words:?}");
        assert_eq!(changes(&wanted(words)), 0, "{words:?} again");
    }
    assert_eq!([changes(&wanted(&["all"])), changes(&NetworkServices::default())], [1, 0]);
}
