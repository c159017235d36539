//! A serial line on which one asks and one answers.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is thrown away at once.
const DISCARD_BYTES: usize = 256;

/// A transport that throws away what has come before a request is written: the answer to an
/// earlier one that came too late, which would be taken for the answer to this one, since Modbus
/// RTU does not number them.
pub(super) struct Quiet<T> {
    inner: T,
    asks: bool,
}

impl<T> Quiet<T> {
    pub(super) fn new(inner: T) -> Quiet<T> {
        Quiet { inner, asks: false }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Quiet<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.asks = false;
        Pin::new(&mut self.inner).poll_read(context, into)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Quiet<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        while !self.asks {
            let mut stale = [0; DISCARD_BYTES];
            let mut stale = ReadBuf::new(&mut stale);
            match Pin::new(&mut self.inner).poll_read(context, &mut stale) {
                Poll::Ready(read) => read?,
                Poll::Pending => self.asks = true,
            }
        }
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
