//! One connection: its bytes become frames, as fast as somebody takes them.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::decode::Reject;
use crate::event::Value;
use crate::framing::{Deframer, Framing, Piece, Start};
use crate::pace::sleep_until_some;

/// What is read at a time.
const READ_BYTES: usize = 16 << 10;

/// A frame, or what was to be one.
#[derive(Debug)]
pub(super) enum Frame {
    /// Its payload.
    Whole(Vec<u8>),
    /// Why it is none, and its bytes.
    Fault(Reject, Vec<u8>),
}

/// What a connection has to say.
#[derive(Debug)]
pub(super) enum Heard {
    /// It is made, encrypted if that is wanted.
    Began(SocketAddr),
    /// Some frames, and whose they are as a column has it.
    Frames(Value, Vec<Frame>),
    /// It has ended, and why; so many bytes of a frame were cut off. Without an address it was
    /// never made.
    Ended {
        peer: Option<SocketAddr>,
        why: String,
        incomplete: usize,
    },
}

/// How connections are read.
#[derive(Clone, Debug)]
pub(super) struct Manner {
    /// What frames are.
    pub(super) framing: Framing,
    /// A connection on which nothing comes for so long is closed.
    pub(super) idle_after: Option<Duration>,
}

/// Reads until the connection ends, or nobody listens any more. Who listens may be slow: then
/// nothing is read, and the far side has to wait.
pub(super) async fn read(
    mut stream: impl AsyncRead + Unpin,
    peer: SocketAddr,
    manner: Manner,
    to: mpsc::Sender<Heard>,
) {
    if to.send(Heard::Began(peer)).await.is_err() {
        return;
    }
    let name = Value::text(&peer.to_string());
    let mut deframer = manner.framing.deframer(Start::Boundary, now());
    let mut buffer = vec![0; READ_BYTES];
    let mut heard_at = Instant::now();
    let why = loop {
        let frame_at = deframer.deadline().map(Instant::from_std);
        let idle_at = manner.idle_after.map(|after| heard_at + after);
        tokio::select! {
            read = stream.read(&mut buffer) => match read {
                Ok(0) => {
                    if manner.framing.is_timed() {
                        // No pause is longer than the end.
                        deframer.finish();
                    }
                    break "the far side has closed the connection".to_owned();
                }
                Ok(count) => {
                    deframer.push(buffer.get(..count).unwrap_or_default(), now());
                    heard_at = Instant::now();
                }
                Err(error) => break error.to_string(),
            },
            () = sleep_until_some(frame_at) => deframer.expire(now()),
            () = sleep_until_some(idle_at) => break "nothing came for tcp.idle_timeout".to_owned(),
        }
        if !give(&mut deframer, &name, &to).await {
            return;
        }
    };
    if !give(&mut deframer, &name, &to).await {
        return;
    }
    let incomplete = deframer.abandon(Start::Boundary, now());
    let ended = Heard::Ended {
        peer: Some(peer),
        why,
        incomplete,
    };
    // Nobody who listens is nobody who must know.
    let _ = to.send(ended).await;
}

/// Hands over the frames that there are. False when nobody takes them.
async fn give(deframer: &mut Deframer, name: &Value, to: &mpsc::Sender<Heard>) -> bool {
    let mut frames = Vec::new();
    while let Some(piece) = deframer.next_piece() {
        frames.push(match piece {
            Piece::Frame(payload) => Frame::Whole(payload.to_vec()),
            Piece::Fault { reject, bytes } => Frame::Fault(reject, bytes.to_vec()),
        });
    }
    frames.is_empty() || to.send(Heard::Frames(name.clone(), frames)).await.is_ok()
}

fn now() -> std::time::Instant {
    std::time::Instant::now()
}
