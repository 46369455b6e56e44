//! The link protocol spoken by hand: what a partner gone bad could say.

use std::{os::fd::OwnedFd, sync::Arc, time::Duration};

use serde_json::{Value, json};
use vsnap::{
    os::link::{Stop, read_text, write_text},
    types::{RelationshipId, SystemId, selection::Selection},
};

use crate::node::{Node, Pair, caller, connect, partner_request};

const NEVER: Stop<'static> = &|| false;

/// A link to `node` of one whose key says that it is `partner`.
struct Link {
    to: OwnedFd,
    from: OwnedFd,
}

impl Link {
    fn open(node: &Arc<Node>, partner: SystemId) -> Self {
        let ((input, to), (from, output)) = (nix::unistd::pipe().unwrap(), nix::unistd::pipe().unwrap());
        let engine = node.engine();
        std::thread::spawn(move || engine.serve_link(&partner, None, &input, &output));
        Link { to, from }
    }

    fn say(&self, text: &[u8]) -> Option<Value> {
        write_text(&self.to, text, Duration::from_secs(5), NEVER).unwrap();
        let answer = read_text(&self.from, 1 << 20, Some(Duration::from_secs(10)), NEVER).unwrap()?;
        Some(serde_json::from_slice(&answer).unwrap())
    }

    fn ask(&self, question: Value) -> Value {
        let mut question = question;
        question["version"] = json!(1);
        self.say(question.to_string().as_bytes()).unwrap()
    }
}

#[test]
fn nonsense_is_answered_and_changes_nothing() {
    let (pair, _, relationship) = Pair::with_relationship();
    let texts: [&[u8]; 8] = [
        b"",
        b"garbage",
        b"{}",
        b"[1]",
        b"{\"version\": 2, \"verb\": \"hello\"}",
        b"{\"version\": 1, \"verb\": \"shell\"}",
        b"{\"version\": 1, \"verb\": \"state\", \"relationship\": \"../../etc/passwd\"}",
        b"{\"version\": 1, \"verb\": \"receive\", \"relationship\": \"x\", \"guid\": -1}",
    ];
    for text in texts {
        let link = Link::open(&pair.b, pair.a.id());
        let answer = link.say(text).unwrap();
        assert_eq!((&answer["answer"], &answer["kind"]), (&json!("failed"), &json!("invalid")), "{answer}");
    }
    // A frame that claims to be longer than any question.
    let link = Link::open(&pair.b, pair.a.id());
    nix::unistd::write(&link.to, &[0x7f, 0xff, 0xff, 0xff]).unwrap();
    let answer = read_text(&link.from, 1 << 20, Some(Duration::from_secs(10)), NEVER).unwrap().unwrap();
    assert!(String::from_utf8_lossy(&answer).contains("longer than"));
    // Unknown members may come from a newer one, and are passed over.
    let link = Link::open(&pair.b, pair.a.id());
    assert_eq!(link.ask(json!({"verb": "hello", "colour": "red"}))["answer"], "hello");
    pair.a.sync(&relationship);
}

#[test]
fn a_partner_gets_at_its_own_relationships_alone() {
    let (a, b, c) = (Node::new(1), Node::new(2), Node::new(3));
    connect(&[&a, &b, &c]);
    let pools = [&a, &b, &c].map(|node| node.make_pool("pool", 1..=2));
    for node in [&a, &c] {
        node.engine().create_partner(&caller(), partner_request(&b.address)).unwrap();
    }
    let volume = a.make_filesystem("data", pools[0]);
    a.write(volume, b"one");
    let relationship = a.replicate(volume, &b);
    a.sync(&relationship);
    let thief = Link::open(&b, c.id());
    for question in [
        json!({"verb": "state", "relationship": relationship}),
        json!({"verb": "discard", "relationship": relationship}),
        json!({"verb": "receive", "relationship": relationship, "guid": 1, "name": "x", "base": null, "resume": false}),
        json!({"verb": "state", "relationship": RelationshipId::random()}),
    ] {
        let answer = thief.ask(question.clone());
        assert_eq!(
            (&answer["answer"], &answer["kind"]),
            (&json!("failed"), &json!("not_found")),
            "{question}: {answer}"
        );
    }
    // Ending what is another's ends nothing, and taking its id for a new one is refused.
    thief.ask(json!({"verb": "end_relationship", "relationship": relationship, "preserve": false}));
    let mut new = json!({"verb": "create_replica", "relationship": relationship, "volume": 1, "volume_name": "data",
        "pool": 1, "volume_type": "filesystem", "size": null, "block": null, "remote_pool": null, "remote_name": null,
        "reuse": true, "guids": []});
    assert_eq!(thief.ask(new.clone())["answer"], "failed");
    new["relationship"] = json!(RelationshipId::random());
    let answer = thief.ask(new);
    assert_eq!(answer["answer"], "failed", "a volume with another's relationship is not to be reused: {answer}");
    assert_eq!(b.engine().relationships(&Selection::default()).unwrap().1, 1);
    a.write(volume, b"two");
    a.sync(&relationship);
    // One that is no partner gets nothing at all.
    let stranger = Link::open(&b, SystemId::random());
    assert_eq!(stranger.ask(json!({"verb": "hello"}))["answer"], "failed");
}
