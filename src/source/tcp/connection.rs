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
        // Reading comes first: after a wait for whoever takes frames, what has come meanwhile
        // says that the far side is not silent.
        tokio::select! {
            biased;
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

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::config::options::Options;

    /// Who listens is slower than the far side may be silent: what came meanwhile is read all the
    /// same, before the silence counts.
    #[tokio::test(start_paused = true)]
    async fn a_pipeline_that_is_behind_is_no_silence() {
        const LINES: usize = 20;
        let manner = Manner {
            framing: Framing::from_options(&Options::default()).unwrap(),
            idle_after: Some(Duration::from_secs(1)),
        };
        let (mut far, near) = tokio::io::duplex(2);
        let (to, mut heard) = mpsc::channel(1);
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        tokio::spawn(read(near, peer, manner, to));
        tokio::spawn(async move {
            for _ in 0..LINES {
                far.write_all(b"x\n").await.unwrap();
            }
            std::future::pending::<()>().await;
        });
        let mut lines = 0;
        loop {
            tokio::time::sleep(Duration::from_secs(2)).await;
            match heard.recv().await.unwrap() {
                Heard::Began(_) => {}
                Heard::Frames(_, frames) => lines += frames.len(),
                Heard::Ended { why, .. } => {
                    assert!(why.contains("tcp.idle_timeout"), "{why}");
                    break;
                }
            }
        }
        assert_eq!(lines, LINES);
    }
}
