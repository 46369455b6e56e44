//! What the link account can do: nothing but the link.

use serde_json::json;

use crate::{
    node::{ADDRESS_B, Pair},
    wait::wait_until,
};

/// As this appliance's daemon calls ssh, with these arguments after the address.
fn ssh(pair: &Pair, options: &str, command: &str) -> String {
    let output = pair.a.try_shell(&format!(
        "timeout 20 ssh -F none -i /var/lib/vsnap/ssh/id_ed25519 -o IdentitiesOnly=yes -o BatchMode=yes \
         -o StrictHostKeyChecking=yes -o UserKnownHostsFile=/var/lib/vsnap/ssh/known_hosts \
         -o HostKeyAlias={} {options} vsnap-link@{ADDRESS_B} {command} 2>&1",
        pair.id_b
    ));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_partner_gets_no_shell_no_forwarding_and_no_other_command() {
    let pair = Pair::new();
    // A question with its length before it: the answer says who it is, whatever command was asked for.
    let hello = r#"{"version":1,"verb":"hello"}"#;
    let ask = format!("printf '\\000\\000\\000\\{:03o}{hello}'", hello.len());
    for command in ["id", "/bin/sh", "'vsnap-link 00000000000000000000000000000000'", "scp -t /tmp"] {
        let output = pair.a.shell(&format!(
            "{ask} | timeout 20 ssh -F none -i /var/lib/vsnap/ssh/id_ed25519 -o BatchMode=yes -o HostKeyAlias={} \
             -o UserKnownHostsFile=/var/lib/vsnap/ssh/known_hosts vsnap-link@{ADDRESS_B} {command} | tr -d '\\0'",
            pair.id_b
        ));
        assert!(output.contains(&pair.id_b) && !output.contains("uid="), "{command}: {output}");
    }
    let output = ssh(&pair, "-t", "</dev/null");
    assert!(!output.contains('$') && !output.contains("uid="), "{output}");
    // Forwarding: the channel is refused, so that nothing answers at the local port.
    let output = ssh(&pair, "-o ExitOnForwardFailure=yes -N -R 2222:127.0.0.1:22", "");
    assert!(output.contains("remote port forwarding failed"), "{output}");
    let output = pair.a.try_shell(&format!(
        "timeout 10 ssh -F none -i /var/lib/vsnap/ssh/id_ed25519 -o BatchMode=yes -o HostKeyAlias={} \
         -o UserKnownHostsFile=/var/lib/vsnap/ssh/known_hosts -W 127.0.0.1:8900 vsnap-link@{ADDRESS_B} </dev/null 2>&1",
        pair.id_b
    ));
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.contains("prohibited") || output.contains("open failed"), "{output}");
    let output = ssh(&pair, "-s", "sftp </dev/null");
    assert_eq!(output, "", "the link again, to which nothing was said");
    // No password, no other key, and nobody else at the socket.
    assert_eq!(pair.b.shell("getent shadow vsnap-link | cut -d: -f2 | cut -c1"), "!");
    let output = ssh(&pair, "-o IdentityFile=/dev/null -o PreferredAuthentications=password", "id");
    assert!(!output.contains("uid="), "{output}");
    let output = pair
        .b
        .try_shell("setpriv --reuid nobody --clear-groups /usr/lib/vsnap/vsnap-link $(printf a%.0s $(seq 32)) 2>&1");
    assert!(String::from_utf8_lossy(&output.stdout).contains("does not answer"), "{output:?}");
    assert_eq!(pair.b.shell("stat -c '%a %U %G' /run/vsnap-link.sock"), "660 root vsnap-link");
    assert_eq!(pair.a.shell("stat -c '%a' /var/lib/vsnap/ssh/id_ed25519"), "600");
}

#[test]
fn garbage_on_the_link_is_answered_and_hurts_nobody() {
    let pair = Pair::new();
    let (_, relationship) = pair.filesystem("data", 1);
    let key = format!(
        "timeout 20 ssh -F none -i /var/lib/vsnap/ssh/id_ed25519 -o BatchMode=yes -o HostKeyAlias={} \
         -o UserKnownHostsFile=/var/lib/vsnap/ssh/known_hosts vsnap-link@{ADDRESS_B} x | tr -d '\\0'",
        pair.id_b
    );
    for (send, expected) in [
        ("printf '\\000\\000\\000\\007garbage'", "makes no sense"),
        ("printf '\\177\\377\\377\\377'", "longer than"),
        ("printf '\\000\\000\\000\\034{\"version\":9,\"verb\":\"hello\"}'", "version 1 of the link"),
        ("printf '\\000\\000\\000\\034{\"version\":1,\"verb\":\"shell\"}'", "makes no sense"),
        ("head -c 100000 /dev/zero", "makes no sense"),
    ] {
        let output = pair.a.shell(&format!("{send} | {key}"));
        assert!(output.contains(expected), "{send}: {output}");
    }
    // A relationship that is not its own: as good as none.
    let question = format!("{{\"version\":1,\"verb\":\"state\",\"relationship\":\"{}\"}}", "0".repeat(32));
    let output = pair.a.shell(&format!("printf '\\000\\000\\000\\{:03o}{question}' | {key}", question.len()));
    assert!(output.contains("not_found"), "{output}");
    pair.a.sync(&relationship);
}

#[test]
fn another_host_key_is_refused_until_it_is_renewed() {
    let pair = Pair::new();
    let (_, relationship) = pair.filesystem("data", 1);
    pair.b.shell(
        "mkdir -p /root/keys && cp -a /etc/ssh/ssh_host_* /root/keys/ && rm /etc/ssh/ssh_host_* && ssh-keygen -A -q && \
         systemctl restart ssh",
    );
    let session = pair.a.start(&relationship);
    wait_until("the session says why it waits", 60, || {
        pair.a.session(&session)["message"].as_str().is_some_and(|message| message.contains("host key"))
    });
    // The one who knows that it is meant renews it, and the session goes on by itself.
    pair.add_partner();
    assert_eq!(pair.a.wait(&session)["status"], "COMPLETED");
    pair.b.shell("cp -a /root/keys/* /etc/ssh/ && systemctl restart ssh");
    pair.add_partner();
    pair.a.sync(&relationship);
    // They part: on both sides, and the key opens nothing any longer.
    pair.a.delete(&format!("/api/relationship/{relationship}"));
    pair.a.delete(&format!("/api/partner/{}", pair.id_b));
    for node in [&pair.a, &pair.b] {
        assert_eq!(node.get("/api/partner")["total"], 0);
        assert_eq!(node.shell("cat /var/lib/vsnap-link/authorized_keys"), "");
    }
}

#[test]
fn who_shows_another_certificate_than_was_asked_for_is_told_nothing() {
    let pair = Pair::new();
    let (user, password) = pair.b.user();
    let add = |fingerprint: &str| {
        let output = pair.a.try_shell(&format!(
            "printf '%s\\n' '{password}' | vsnap partner add {ADDRESS_B} --remote-user {user} --password-stdin \
             --remote-fingerprint {fingerprint} 2>&1"
        ));
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let asked = || pair.b.shell("journalctl -u vsnapd --no-pager | grep -c 'POST /api/partner/pairing' || true");
    let before = asked();
    let (added, said) = add(&"ab".repeat(32));
    assert!(!added && said.contains("shows another certificate"), "{said}");
    assert_eq!(asked(), before, "not even the user's name");
    let certificate = "sed '/CERTIFICATE/d' /var/lib/vsnap/tls/self-signed.crt | base64 -d | sha256sum | cut -c 1-64";
    let meant = pair.b.shell(certificate);
    assert!(said.replace(':', "").to_lowercase().contains(&meant), "it says which one it saw: {said}");
    let (added, said) = add(&meant);
    assert!(added && said.contains(&pair.id_b), "{said}");
    assert_ne!(asked(), before);
}

#[test]
fn data_is_taken_over_an_interface_with_repl_alone() {
    let pair = Pair::new();
    let (_, relationship) = pair.filesystem("data", 1);
    let network = pair.b.get("/api/network?name=eth1")["id"].as_str().unwrap().to_owned();
    let serve = |services: &[&str]| pair.b.put(&format!("/api/network/{network}"), json!({ "services": services }));
    // SSH is reachable all the same, for administrators.
    serve(&["mgmt", "nfs", "smb", "iscsi"]);
    let session = pair.a.start(&relationship);
    wait_until("the session says why it waits", 60, || {
        let message = pair.a.session(&session)["message"].clone();
        message.as_str().is_some_and(|message| message.contains("interface eth1 does not have service repl"))
    });
    let replica = pair.b.dataset(&pair.replica(&relationship));
    assert_eq!(pair.b.shell(&format!("zfs list -H -t snapshot -o name {replica}")), "");
    serve(&["all"]);
    assert_eq!(pair.a.wait(&session)["status"], "COMPLETED");
}
