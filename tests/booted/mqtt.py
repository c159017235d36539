"""An MQTT 3.1.1 client, as much of one as counting needs: QoS 1, one connection, no repeats.

https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/mqtt-v3.1.1.html
"""

import socket
import struct
import threading

from words import Failure

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PING, PONG = 1, 2, 3, 4, 8, 9, 12, 13
KEEP_ALIVE_S = 0


def text(value):
    data = value.encode()
    return struct.pack(">H", len(data)) + data


def packet(kind, flags, body):
    head, length = bytearray([kind << 4 | flags]), len(body)
    while True:
        length, digit = length >> 7, length & 0x7F
        head.append(digit | (0x80 if length else 0))
        if not length:
            return bytes(head) + body


class Client:
    """Publishes and subscribes. `message` is called with each payload, `acknowledged` with what
    was given to `publish`, both in the client's own thread."""

    def __init__(self, port, name, message=None, acknowledged=None):
        self.message, self.acknowledged = message, acknowledged
        self.lock = threading.Lock()
        self.unacknowledged, self.last = {}, 0
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")
        body = text("MQTT") + struct.pack(">BBH", 4, 2, KEEP_ALIVE_S) + text(name)
        self.socket.sendall(packet(CONNECT, 0, body))
        self.expect(CONNACK)
        self.thread = None

    def expect(self, kind):
        found, _, body = self.read()
        if found != kind or body[1 if kind == CONNACK else 2] > 2:
            raise Failure(f"the broker answers with packet {found}, {body.hex()}")

    def read(self):
        head = self.file.read(1)
        if not head:
            raise EOFError
        length = shift = 0
        while True:
            digit = self.file.read(1)[0]
            length |= (digit & 0x7F) << shift
            shift += 7
            if digit < 0x80:
                break
        return head[0] >> 4, head[0] & 0x0F, self.file.read(length)

    def subscribe(self, topic):
        self.socket.sendall(packet(SUBSCRIBE, 2, struct.pack(">H", 1) + text(topic) + b"\x01"))
        self.expect(SUBACK)

    def begin(self):
        """From here on a thread reads."""
        self.socket.settimeout(None)
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def listen(self):
        try:
            while True:
                kind, flags, body = self.read()
                if kind == PUBLISH:
                    end = 2 + struct.unpack_from(">H", body)[0]
                    if flags & 6:
                        self.socket.sendall(packet(PUBACK, 0, body[end : end + 2]))
                        end += 2
                    self.message(body[end:])
                elif kind == PUBACK:
                    with self.lock:
                        what = self.unacknowledged.pop(struct.unpack(">H", body)[0])
                    self.acknowledged(what)
        except (EOFError, OSError, ValueError):
            # Closed, by us or by a broker whose end the test notices by what does not come.
            pass

    def publish(self, topic, payload, what):
        with self.lock:
            self.last = self.last % 0xFFFF + 1
            self.unacknowledged[self.last] = what
            body = text(topic) + struct.pack(">H", self.last) + payload
        self.socket.sendall(packet(PUBLISH, 2, body))

    def close(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()
