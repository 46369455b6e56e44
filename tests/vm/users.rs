//! Contract section 3, PAM, and the account commands.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bed::{Answer, Bed};

fn get_as(bed: &Bed, user: &str, password: &str) -> Answer {
    bed.send(bed.client().get(bed.url("/api/system")).basic_auth(user, Some(password)))
}

fn remove_accounts(bed: &Bed) {
    bed.try_shell("for u in second-admin plain; do smbpasswd -x $u; userdel $u; done");
}

/// Whether sshd leads this user's connection on to the API.
fn led_on_by_ssh(bed: &Bed, user: &str, password: &str) -> bool {
    bed.shell(&format!("printf '#!/bin/sh\\necho {password}\\n' > /tmp/ask && chmod 700 /tmp/ask"));
    let said = bed.shell(&format!(
        "(echo; sleep 3) | SSH_ASKPASS=/tmp/ask SSH_ASKPASS_REQUIRE=force timeout 60 ssh -o StrictHostKeyChecking=no \
         -o UserKnownHostsFile=/dev/null -o PubkeyAuthentication=no -o NumberOfPasswordPrompts=1 -W 127.0.0.1:8900 \
         {user}@127.0.0.1 2>&1; echo \"exit $?\"; rm /tmp/ask"
    ));
    assert!(said.ends_with("exit 0") || said.contains("Permission denied"), "{said}");
    said.ends_with("exit 0")
}

#[test]
fn accounts_follow_the_operating_system() {
    let bed = Bed::fresh();
    remove_accounts(&bed);
    bed.shell("printf 'first-secret' | vsnap user create second-admin --password-stdin");
    get_as(&bed, "second-admin", "first-secret").ok();
    let users = bed.get("/api/user").ok();
    let entry = users["users"].as_array().unwrap().iter().find(|user| user["name"] == "second-admin").cloned().unwrap();
    assert_eq!(entry["uid"], bed.shell("id -u second-admin").as_str());
    assert_eq!(entry["gid"], bed.shell("id -g second-admin").as_str());
    assert_eq!(entry["role"], "vsnap_admin");
    let uids: Vec<u64> =
        users["users"].as_array().unwrap().iter().map(|user| user["uid"].as_str().unwrap().parse().unwrap()).collect();
    assert!(uids.is_sorted());
    assert!(bed.shell("pdbedit -L").contains("second-admin:"), "Samba knows the user");
    bed.shell("smbclient -L localhost -U second-admin%first-secret >/dev/null");

    // It is none for SSH, not even to have connections led on to what only the appliance reaches; others are.
    bed.shell("useradd plain && echo plain:plain-secret | chpasswd");
    assert!(led_on_by_ssh(&bed, "plain", "plain-secret"));
    assert!(!led_on_by_ssh(&bed, "second-admin", "first-secret"));

    // A cached credential ends with the password.
    bed.shell("printf 'second-secret' | vsnap user update second-admin --password-stdin");
    get_as(&bed, "second-admin", "first-secret").fails(401, "UnauthorizedError");
    get_as(&bed, "second-admin", "second-secret").ok();
    bed.shell("echo second-admin:third-secret | chpasswd");
    get_as(&bed, "second-admin", "second-secret").fails(401, "UnauthorizedError");
    get_as(&bed, "second-admin", "third-secret").ok();

    bed.shell("vsnap --noprompt user revoke second-admin");
    get_as(&bed, "second-admin", "third-secret").fails(403, "ForbiddenError");
    assert!(!bed.shell("pdbedit -L").contains("second-admin:"), "Samba has forgotten the user");
    assert!(!bed.get("/api/user").ok().to_string().contains("second-admin"));
    bed.shell("vsnap user grant second-admin");
    get_as(&bed, "second-admin", "third-secret").ok();
    bed.shell("passwd -q -l second-admin");
    assert_ne!(get_as(&bed, "second-admin", "third-secret").status, 200, "a locked account is out");
    remove_accounts(&bed);
    assert_ne!(get_as(&bed, "second-admin", "third-secret").status, 200, "a removed account is out");
}

#[test]
fn outsiders_are_told_apart_from_wrong_passwords() {
    let bed = Bed::fresh();
    remove_accounts(&bed);
    bed.shell("useradd plain && echo plain:plain-secret | chpasswd");
    get_as(&bed, "plain", "plain-secret").fails(403, "ForbiddenError");
    get_as(&bed, "plain", "wrong").fails(401, "UnauthorizedError");
    get_as(&bed, "nobody-of-this-name", "x").fails(401, "UnauthorizedError");
    get_as(&bed, "root", "").fails(401, "UnauthorizedError");
    remove_accounts(&bed);
}

#[test]
fn wrong_guesses_do_not_lock_the_admin_out() {
    let bed = Bed::fresh();
    let (user, password) = bed.credentials();
    get_as(&bed, user, password).ok();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| get_as(&bed, user, "wrong guess"));
        }
        std::thread::sleep(Duration::from_millis(300));
        let began = Instant::now();
        get_as(&bed, user, password).ok();
        assert!(began.elapsed() < Duration::from_secs(5), "the admin had to wait {:?}", began.elapsed());
    });
    get_as(&bed, user, password).ok();
}

#[test]
fn accounts_are_changed_on_the_appliance_only() {
    let bed = Bed::fresh();
    let before = bed.get("/api/user").ok();
    let body = json!({"name": "intruder", "password": "long enough"});
    bed.post("/api/user", body).fails(403, "ForbiddenError");
    let (user, _) = bed.credentials();
    bed.put(&format!("/api/user/{user}"), json!({"password": "long enough"})).fails(403, "ForbiddenError");
    bed.post("/api/user/root", json!({"action": "grant"})).fails(403, "ForbiddenError");
    assert_eq!(bed.get("/api/user").ok(), before);
    let refused: Value = bed.shell_json(
        "curl -s --unix-socket /run/vsnap/api.sock -X POST -d '{\"action\": \"grant\"}' http://x/api/user/root",
    );
    assert_eq!(refused["error"]["type"], "ForbiddenError");
    for bad in ["Root", "a:b", "-x", "a b"] {
        let answer: Value = bed.shell_json(&format!(
            "curl -s --unix-socket /run/vsnap/api.sock -X POST -d '{{\"name\": \"{bad}\", \"password\": \"long enough\"}}' http://x/api/user"
        ));
        assert_eq!(answer["error"]["type"], "InvalidParameterError", "{bad}");
    }
    bed.shell("useradd plain 2>/dev/null; runuser -u plain -- curl -s --unix-socket /run/vsnap/api.sock http://x/api/system && exit 1; userdel plain");
    assert_eq!(bed.get("/api/user").ok(), before);
}
