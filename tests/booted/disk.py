#!/usr/bin/env python3
"""A disk that loses what was not flushed when its power is cut.

An NBD server on a UNIX socket, for one client. Writes go into memory, as into the cache of a disk;
a flush makes all writes before it durable, in the image file. Reads see the newest.

After SIGUSR1 the power goes at the worst moment, which is the next flush that has something to do:
it is not answered any more, and what it would have covered is lost, or with `--survive some` each
such write by chance is lost, kept or torn between two sectors, since a disk may write its cache
back in any order. On SIGTERM the power goes at once. One line on standard output says how much
that was. Then the disk is silent; the client, whose power goes too, is to see no fault.

    disk.py SOCKET IMAGE [--survive none|some] [--seed N]
"""

import argparse
import mmap
import os
import random
import signal
import socket
import struct
import sys

SECTOR_BYTES = 512

# The protocol: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md
OPTION_MAGIC = b"IHAVEOPT"
OPTION_REPLY_MAGIC = 0x3E889045565A9
REQUEST_MAGIC = 0x25609513
REPLY_MAGIC = 0x67446698
FIXED_NEWSTYLE, NO_ZEROES = 1, 2
OPT_EXPORT_NAME, OPT_ABORT, OPT_INFO, OPT_GO = 1, 2, 6, 7
REP_ACK, REP_INFO, REP_UNSUPPORTED = 1, 3, 0x80000001
# Neither FUA nor zeroing nor discarding: a client without them writes and flushes instead.
HAS_FLAGS, SEND_FLUSH = 1, 4
READ, WRITE, DISCONNECT, FLUSH = 0, 1, 2, 3
INVALID = 22


class PowerCut(Exception):
    """The power is gone."""


class Cache:
    """The image as it is read, and the writes that no flush has covered."""

    def __init__(self, path):
        self.file = os.open(path, os.O_RDWR)
        self.size = os.fstat(self.file).st_size
        # Copy on write: what is written here does not get into the file.
        self.view = mmap.mmap(self.file, self.size, access=mmap.ACCESS_COPY)
        self.unflushed = []
        self.flushes = 0
        self.cut_at_flush = False

    def write(self, offset, data):
        self.view[offset : offset + len(data)] = data
        self.unflushed.append((offset, data))

    def flush(self):
        if self.cut_at_flush and self.unflushed:
            raise PowerCut
        for offset, data in self.unflushed:
            os.pwrite(self.file, data, offset)
        self.unflushed.clear()
        self.flushes += 1

    def lose(self, survive, dice):
        """What the cut leaves of the unflushed writes; the account of it."""
        kept = torn = 0
        for offset, data in self.unflushed:
            fate = dice.choice(["lost", "kept", "torn"]) if survive == "some" else "lost"
            if fate == "kept":
                kept += 1
                os.pwrite(self.file, data, offset)
            elif fate == "torn":
                torn += 1
                sectors = dice.randrange(len(data) // SECTOR_BYTES + 1)
                os.pwrite(self.file, data[: sectors * SECTOR_BYTES], offset)
        count, size = len(self.unflushed), sum(len(data) for _, data in self.unflushed)
        return (
            f"{count} writes of {size} bytes were not flushed: {count - kept - torn} lost, "
            f"{kept} kept, {torn} torn; {self.flushes} flushes before"
        )


def take(connection, size):
    """Exactly so many bytes."""
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


def agree(connection, size):
    """The handshake. Whether the client wants the disk."""
    connection.sendall(b"NBDMAGIC" + OPTION_MAGIC + struct.pack(">H", FIXED_NEWSTYLE | NO_ZEROES))
    take(connection, 4)
    while True:
        magic, option, length = struct.unpack(">8sII", take(connection, 16))
        if magic != OPTION_MAGIC:
            raise EOFError
        take(connection, length)

        def reply(kind, data=b"", option=option):
            head = struct.pack(">QIII", OPTION_REPLY_MAGIC, option, kind, len(data))
            connection.sendall(head + data)

        if option == OPT_EXPORT_NAME:
            connection.sendall(struct.pack(">QH", size, HAS_FLAGS | SEND_FLUSH))
            return True
        if option in (OPT_GO, OPT_INFO):
            reply(REP_INFO, struct.pack(">HQH", 0, size, HAS_FLAGS | SEND_FLUSH))
            reply(REP_ACK)
            if option == OPT_GO:
                return True
        elif option == OPT_ABORT:
            reply(REP_ACK)
            return False
        else:
            reply(REP_UNSUPPORTED)


def serve(connection, cache):
    """One request after the other, so that a flush covers all that was answered before it."""
    if not agree(connection, cache.size):
        return
    while True:
        magic, _flags, kind, cookie, offset, length = struct.unpack(
            ">IHHQQI", take(connection, 28)
        )
        if magic != REQUEST_MAGIC or kind == DISCONNECT:
            return
        error, answer = 0, b""
        data = take(connection, length) if kind == WRITE else b""
        if kind in (READ, WRITE) and offset + length > cache.size:
            error = INVALID
        elif kind == READ:
            answer = cache.view[offset : offset + length]
        elif kind == WRITE:
            cache.write(offset, data)
        elif kind == FLUSH:
            cache.flush()
        else:
            error = INVALID
        connection.sendall(struct.pack(">IIQ", REPLY_MAGIC, error, cookie) + answer)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("socket")
    parser.add_argument("image")
    parser.add_argument("--survive", choices=["none", "some"], default="none")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    cache = Cache(options.image)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(options.socket)
    listener.listen(1)

    def cut_soon(*_):
        cache.cut_at_flush = True

    def cut_now(*_):
        raise PowerCut

    signal.signal(signal.SIGUSR1, cut_soon)
    signal.signal(signal.SIGTERM, cut_now)
    try:
        print("listening", flush=True)
        while True:
            connection, _ = listener.accept()
            try:
                serve(connection, cache)
            except (EOFError, ConnectionError):
                # A client that was killed. The disk still has power, until it is cut.
                connection.close()
    except PowerCut:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print(cache.lose(options.survive, random.Random(options.seed)), flush=True)
        # The connection stays open until whoever has started this ends it.
        sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
