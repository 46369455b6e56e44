//! What changed since a snapshot, streamed. Beyond the contract.

use axum::{
    body::{Body, Bytes},
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Response},
};
use http_body_util::channel::{Channel, Sender};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Api, blocking, body::Query, error::Failure, lookup, wire::Decimal};
use crate::{
    engine::{Engine, Span},
    error::Error,
    os::{Change, ChangeKind},
    types::{Invalid, SnapshotId},
};

/// Pieces of the answer that may wait for the client to take them.
const PIECES: usize = 16;
/// Size of a piece: large enough that a million paths are not a million pieces.
const PIECE_BYTES: usize = 32 << 10;

/// Until when.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Until {
    /// Id of a later snapshot of the same volume, or `now`, which is also meant when it is left out.
    to: Option<String>,
}

/// What changed. The object is written while it is found out, so its end comes late; an answer that breaks off is no
/// whole JSON.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Difference {
    snapshot_id: Decimal,
    /// Id of the later snapshot, or `now`.
    to: String,
    /// Bytes that were written in between.
    size_written: Decimal,
    /// Paths that changed; null for a lun.
    #[schema(required)]
    changes: Option<Vec<PathChange>>,
    total: usize,
}

/// A path that changed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PathChange {
    /// `added`, `removed`, `modified` or `renamed`.
    change: &'static str,
    /// `F` file, `/` folder, `@` symbolic link, and the other letters of `zfs diff -F`.
    file_type: char,
    /// Relative to the root of the volume, which is `.` itself.
    path: String,
    /// Its new name, when it was renamed.
    #[schema(required)]
    new_path: Option<String>,
}

impl From<Change> for PathChange {
    fn from(change: Change) -> Self {
        let word = match change.kind {
            ChangeKind::Added => "added",
            ChangeKind::Removed => "removed",
            ChangeKind::Modified => "modified",
            ChangeKind::Renamed => "renamed",
        };
        let path = if change.path.is_empty() { ".".to_owned() } else { change.path };
        PathChange { change: word, file_type: change.file_type, path, new_path: change.new_path }
    }
}

/// Compare a snapshot with what came later
///
/// Paths of a filesystem that were added, removed, modified or renamed, and how many bytes were written; of a lun the
/// bytes alone. The answer is streamed.
#[utoipa::path(get, path = "/api/snapshot/{id}/diff", operation_id = "diffSnapshot", tag = "snapshot",
    params(("id" = Decimal, Path, description = "Id of the snapshot"), Until),
    responses((status = 200, description = "What changed", body = Difference)))]
pub(super) async fn show(
    State(api): State<Api>,
    Path(id): Path<String>,
    Query(until): Query<Until>,
) -> Result<Response, Failure> {
    let from: SnapshotId = lookup::id("snapshot", &id)?;
    let to = later(until.to)?;
    let span = blocking(&api, move |engine| engine.span(from, to)).await?;
    let head = format!(
        r#"{{"snapshot_id":"{from}","to":"{}","size_written":"{}","changes":"#,
        to.map_or_else(|| "now".to_owned(), |to| to.to_string()),
        span.written
    );
    let (sender, body) = Channel::<Bytes, axum::Error>::new(PIECES);
    let mut writer = Writer { sender, piece: head, total: 0 };
    // Not awaited: it goes on while the client reads.
    tokio::spawn(async move {
        let work = blocking(&api, move |engine| {
            let whole = writer.write(engine, &span);
            if let Err(error) = &whole {
                tracing::error!(%error, "a comparison of snapshots broke off");
                writer.sender.abort(axum::Error::new("the comparison broke off"));
            }
            Ok(())
        });
        let _ = work.await;
    });
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::new(body)).into_response())
}

fn later(to: Option<String>) -> Result<Option<SnapshotId>, Error> {
    match to.as_deref() {
        None | Some("now") => Ok(None),
        Some(text) => match text.parse() {
            Ok(id) => Ok(Some(id)),
            Err(_) => Err(Invalid::new("to", format!("{text:?} is neither the id of a snapshot nor now")).into()),
        },
    }
}

/// Writes the answer piece by piece, at the pace of the client. On a thread that may block.
struct Writer {
    sender: Sender<Bytes, axum::Error>,
    piece: String,
    total: usize,
}

impl Writer {
    fn write(&mut self, engine: &Engine, span: &Span) -> Result<(), Error> {
        if span.has_paths {
            self.piece.push('[');
            let mut alive = true;
            engine.changes(span, &mut |change| {
                let comma = if self.total == 0 { "\n" } else { ",\n" };
                // A struct of texts is always JSON.
                let line = serde_json::to_string(&PathChange::from(change)).unwrap_or_default();
                self.piece.push_str(comma);
                self.piece.push_str(&line);
                self.total += 1;
                alive = self.piece.len() < PIECE_BYTES || self.send();
                alive
            })?;
            if !alive {
                return Ok(());
            }
            self.piece.push_str("\n]");
        } else {
            self.piece.push_str("null");
        }
        self.piece.push_str(&format!(r#","total":{}}}"#, self.total));
        self.send();
        Ok(())
    }

    /// Whether the client still wants it.
    fn send(&mut self) -> bool {
        let piece = Bytes::from(std::mem::take(&mut self.piece));
        tokio::runtime::Handle::current().block_on(self.sender.send_data(piece)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_a_snapshot_or_now() {
        assert_eq!(later(None).unwrap(), None);
        assert_eq!(later(Some("now".into())).unwrap(), None);
        assert_eq!(later(Some("7".into())).unwrap(), Some(SnapshotId(7)));
        assert!(later(Some("0".into())).is_err() && later(Some("then".into())).is_err());
    }
}
