//! Watching a session until it is over. It goes on when nobody watches.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    Session,
    failure::{Failure, Result},
    human, json,
    progress::Progress,
};

/// How often the appliance is asked how far it is.
const PAUSE: Duration = Duration::from_millis(500);

/// How long the appliance may be away, since sessions outlive a restart of the daemon.
const PATIENCE: Duration = Duration::from_secs(60);

/// What there is to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
enum View {
    /// How much is missing is not known.
    Waiting(String),
    /// Hundredths, and the rest of the message.
    Going(u64, String),
}

/// Shows how far a session is until it is over, then how it ended. A failed one is a failure.
pub(super) fn watch(session: &Session, first: Value) -> Result {
    let path = format!("/api/session/{}", json::text(&first, "id"));
    let mut now = first;
    let mut drawn: Option<(Progress, bool)> = None;
    let mut answered = Instant::now();
    while !is_over(&now) {
        drawn = Some(draw(drawn, &now));
        thread::sleep(PAUSE);
        match session.client.get(&path) {
            Ok(answer) => (now, answered) = (answer, Instant::now()),
            Err(Failure::Down { .. }) if answered.elapsed() < PATIENCE => {}
            Err(failure) => return Err(failure),
        }
    }
    drop(drawn);
    if now["status"] == "COMPLETED" {
        return session.output.show(&now, completed_text);
    }
    if session.output.is_json() {
        session.output.show(&now, completed_text)?;
    }
    Err(Failure::Outcome(format!("session {} failed: {}", json::text(&now, "id"), json::text(&now, "message"))))
}

fn is_over(session: &Value) -> bool {
    !["PENDING", "ACTIVE"].map(Value::from).contains(&session["status"])
}

/// A spinner becomes a bar, and the other way round, when that is what there is to show.
fn draw(drawn: Option<(Progress, bool)>, session: &Value) -> (Progress, bool) {
    let name = format!("Session {}", json::text(session, "id"));
    match view(session) {
        View::Going(percent, note) => {
            let bar = drawn.filter(|(_, is_bar)| *is_bar).map_or_else(|| Progress::bar(name), |(bar, _)| bar);
            bar.set(percent, note);
            (bar, true)
        }
        View::Waiting(note) => {
            let text = format!("{name} {note}");
            let spinner =
                drawn.filter(|(_, is_bar)| !is_bar).map_or_else(|| Progress::spinner(text.clone()), |(it, _)| it);
            spinner.say(text);
            (spinner, false)
        }
    }
}

fn view(session: &Value) -> View {
    let message = session["message"].as_str().unwrap_or_default();
    if session["status"] == "PENDING" {
        return View::Waiting("waits for its turn".to_owned());
    }
    match percent(message) {
        Some((percent, rest)) => View::Going(percent, rest.to_owned()),
        None if message.is_empty() => View::Waiting("is at work".to_owned()),
        None => View::Waiting(format!("is at work: {message}")),
    }
}

/// The percentage that a message begins with, as in `42 %, 12.3 MB/s, 3 min left`, and what stands behind it.
fn percent(message: &str) -> Option<(u64, &str)> {
    let (number, rest) = message.split_once('%')?;
    let percent = number.trim().parse().ok().filter(|percent| *percent <= 100)?;
    Some((percent, rest.trim_start_matches([',', ' '])))
}

/// How a session ended well, for people.
fn completed_text(session: &Value) -> String {
    let span = json::number(session, "time_ended").zip(json::number(session, "time_started"));
    let took = span.map(|(ended, started)| format!(" in {}", human::duration(ended - started))).unwrap_or_default();
    let message = session["message"].as_str().map(|message| format!(" {message}")).unwrap_or_default();
    format!(
        "Session {} is completed: snapshot {} is on the partner, {} sent{took}.{message}",
        json::text(session, "id"),
        json::text(session, "local_snap_name"),
        human::size_of(session, "size_sent"),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_message_with_a_percentage_is_a_bar() {
        let active = |message: Value| view(&json!({ "status": "ACTIVE", "message": message }));
        let going = |percent, rest: &str| View::Going(percent, rest.to_owned());
        assert_eq!(active(json!("42 %, 12.3 MB/s, 3 min left")), going(42, "12.3 MB/s, 3 min left"));
        assert_eq!(active(json!("100 %")), going(100, ""));
        assert_eq!(active(json!("12.3 MB/s")), View::Waiting("is at work: 12.3 MB/s".to_owned()));
        assert_eq!(active(Value::Null), View::Waiting("is at work".to_owned()));
        for odd in ["x 42 %", "101 %", "-1 %", "%", "4.2 %"] {
            assert!(matches!(active(json!(odd)), View::Waiting(_)), "{odd}");
        }
        let pending = view(&json!({ "status": "PENDING", "message": null }));
        assert_eq!(pending, View::Waiting("waits for its turn".to_owned()));
    }

    #[test]
    fn a_status_that_is_not_known_ends_the_watching() {
        for (status, over) in [("PENDING", false), ("ACTIVE", false), ("COMPLETED", true), ("FAILED", true)] {
            assert_eq!(is_over(&json!({ "status": status })), over, "{status}");
        }
        assert!(is_over(&json!({})));
    }

    #[test]
    fn the_end_is_told() {
        let session = json!({ "id": "5", "local_snap_name": "s", "size_sent": "2048", "time_started": "100",
            "time_ended": "161", "message": null });
        let expected = "Session 5 is completed: snapshot s is on the partner, 2.0 KiB sent in 1 min 1 s.";
        assert_eq!(completed_text(&session), expected);
    }
}
