//! What the service manager is told: ready, reloading, stopping, alive. Without one, nothing happens.

use std::{sync::Arc, time::Duration};

use sd_notify::NotifyState;

use crate::engine::Engine;

/// Tells the service manager; that it can't be told is worth a line, no more.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

/// Requests are served.
pub fn ready() {
    notify(&[NotifyState::Ready, NotifyState::Status("serving")]);
}

/// The daemon has begun to stop, and may need so long.
pub fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("ending requests and operations")]);
}

/// The reload that [`ready`] or [`reload_failed`] ends has begun.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "there is no monotonic clock"),
    }
}

/// The reload has ended; everything is as it was before.
pub fn reload_failed(why: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(&format!("reload failed: {why}"))]);
}

/// Tells the service manager at half its interval that the daemon is alive: that the runtime turns, that it finds a
/// thread for blocking work, and that the engine answers there. Ends at once when the manager doesn't ask for it.
pub async fn watch(engine: Arc<Engine>) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut ticks = tokio::time::interval((limit / 2).max(Duration::from_millis(100)));
    loop {
        ticks.tick().await;
        let engine = Arc::clone(&engine);
        match tokio::task::spawn_blocking(move || engine.accounts_version()).await {
            // An error is an answer too: the daemon works, and requests tell of the error.
            Ok(Ok(_) | Err(_)) => notify(&[NotifyState::Watchdog]),
            Err(error) => tracing::error!(%error, "the watchdog's call failed; the service manager will restart me"),
        }
    }
}
