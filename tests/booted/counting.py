"""What was given to the gateway, what it has acknowledged, and what came out at the far side.

Numbers go in over two ways at once: by MQTT through a broker that survives the power cuts, and by
HTTP posted to the gateway itself. The gateway numbers the rows of each way by a running count, so
that its state is seen in every output, and sends them to the broker's topic `out`.
"""

import http.client
import json
import pathlib
import socket
import subprocess
import threading

import mqtt
from words import Failure, expect, wait_for

# So many numbers of each way may be given and not have come out yet.
UNDER_WAY = 300
# Between two messages.
PACE_S = 0.002
MQTT, HTTP = "mqtt", "http"

SQL = """
CREATE STREAM Readings (n BIGINT) WITH ('type' = 'source', 'extension' = 'mqtt', 'format' = 'json',
  'mqtt.broker' = 'mqtt://10.0.2.2:{broker}', 'mqtt.topic' = 'in/+',
  'mqtt.reconnect.max' = '1 s');
CREATE STREAM Posts (n BIGINT) WITH ('type' = 'source', 'extension' = 'http', 'format' = 'json',
  'http.listen' = '0.0.0.0:8080', 'http.path' = '/posts');
CREATE STREAM Events (way STRING, n BIGINT);
INSERT INTO Events SELECT 'mqtt' AS way, n FROM Readings;
INSERT INTO Events SELECT 'http' AS way, n FROM Posts;
CREATE STREAM Outputs (way STRING, n BIGINT, total BIGINT) WITH ('type' = 'sink',
  'extension' = 'mqtt', 'mqtt.broker' = 'mqtt://10.0.2.2:{broker}', 'mqtt.topic' = 'out',
  'mqtt.reconnect.max' = '1 s');
INSERT INTO Outputs SELECT way, n, count(*) AS total FROM Events GROUP BY way;
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Broker:
    """mosquitto on this machine: it keeps everything for who is away."""

    def __init__(self, folder):
        self.port, self.log = free_port(), folder / "broker.log"
        settings = folder / "broker.conf"
        settings.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nuser root\n"
            "persistence false\nmax_queued_messages 0\nset_tcp_nodelay true\n"
            f"log_dest file {self.log}\nlog_type all\n")
        self.log.unlink(missing_ok=True)
        with open(folder / "broker.errors", "wb") as errors:
            self.process = subprocess.Popen(["mosquitto", "-c", settings], stderr=errors)
        wait_for(self.listens, "mosquitto listens", 30)

    def listens(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            return True
        except OSError:
            expect(self.process.poll() is None, f"mosquitto does not start: see {self.log}")
            return False

    def has_subscription(self):
        return self.log.exists() and "in/+" in self.log.read_text(errors="replace")

    def stop(self):
        self.process.kill()
        self.process.wait()


class Way:
    """The numbers of one way: 0, 1, 2…"""

    def __init__(self):
        self.offered = 0
        self.acknowledged = set()
        # By number: its id and its running count.
        self.came = {}
        self.repeats = 0


class Ledger:
    """Both ways, and the threads that serve them until `stop`."""

    def __init__(self, broker_port, http_port):
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        self.ways = {MQTT: Way(), HTTP: Way()}
        self.ids = {}
        self.faults = []
        self.running = True
        self.http_port = http_port
        self.collector = mqtt.Client(broker_port, "collector", message=self.output)
        self.collector.subscribe("out")
        self.collector.begin()
        self.publisher = mqtt.Client(broker_port, "publisher",
                                     acknowledged=lambda n: self.acknowledge(MQTT, n))
        self.publisher.begin()
        self.threads = [threading.Thread(target=work, daemon=True)
                        for work in (self.publish, self.post)]

    def start(self):
        for thread in self.threads:
            thread.start()

    def next(self, way):
        """The next number of a way, when not too many are under way; None at the end."""
        mine = self.ways[way]
        with self.changed:
            self.changed.wait_for(
                lambda: not self.running or mine.offered - len(mine.came) < UNDER_WAY)
            if not self.running:
                return None
            mine.offered += 1
            return mine.offered - 1

    def acknowledge(self, way, number):
        with self.changed:
            self.ways[way].acknowledged.add(number)
            self.changed.notify_all()

    def publish(self):
        while (number := self.next(MQTT)) is not None:
            self.publisher.publish("in/1", json.dumps({"n": number}).encode(), number)
            # A steady stream rather than bursts of all that may be under way.
            threading.Event().wait(PACE_S)

    def post(self):
        """One after the other, and each again under its key until it is taken, also at the end."""
        connection = None
        while (number := self.next(HTTP)) is not None:
            taken = False
            while not taken:
                try:
                    connection = connection or http.client.HTTPConnection(
                        "127.0.0.1", self.http_port, timeout=15)
                    connection.request("POST", "/posts", json.dumps({"n": number}),
                                       {"Idempotency-Key": str(number)})
                    answer = connection.getresponse()
                    answer.read()
                    taken = answer.status == 200
                except (OSError, http.client.HTTPException):
                    if connection:
                        connection.close()
                    connection = None
                if not taken:
                    threading.Event().wait(0.2)
            self.acknowledge(HTTP, number)

    def output(self, payload):
        """What came out. A fault is remembered, as this is not the thread that can fail."""
        with self.changed:
            try:
                row = json.loads(payload)
                way, number = self.ways[row["way"]], row["n"]
                identity, total = row["_id"], row["total"]
                if not 0 <= number < way.offered:
                    self.faults.append(f"invented: {payload}")
                elif number in way.came:
                    way.repeats += 1
                    if way.came[number] != (identity, total):
                        self.faults.append(f"came as {way.came[number]} and then: {payload}")
                elif identity in self.ids:
                    self.faults.append(f"id of {self.ids[identity]} used again: {payload}")
                else:
                    way.came[number] = (identity, total)
                    self.ids[identity] = (row["way"], number)
            except (ValueError, KeyError, TypeError) as error:
                self.faults.append(f"no output of ours ({error!r}): {payload}")
            self.changed.notify_all()

    def outputs(self):
        with self.lock:
            return sum(len(way.came) for way in self.ways.values())

    def under_way(self):
        """Numbers that were acknowledged and have not come out."""
        with self.lock:
            return {name: way.acknowledged - way.came.keys() for name, way in self.ways.items()}

    def wait_outputs(self, more, deadline_s):
        """Returns as soon as so many more have come out."""
        with self.changed:
            def count():
                return sum(len(way.came) for way in self.ways.values())
            goal = count() + more
            expect(self.changed.wait_for(lambda: count() >= goal, deadline_s),
                   f"{more} more outputs: not within {deadline_s} s")

    def wait_out(self, numbers, deadline_s):
        """Waits until these numbers, as `under_way` gives them, have come out."""
        def missing():
            with self.lock:
                return {name: sorted(ns - self.ways[name].came.keys())[:20]
                        for name, ns in numbers.items() if ns - self.ways[name].came.keys()}
        try:
            wait_for(lambda: not missing(), "", deadline_s)
        except Failure:
            raise Failure(f"LOST: acknowledged, and not out within {deadline_s} s: "
                          f"{missing()}") from None

    def stop(self, deadline_s):
        """No further numbers; waits until each that was begun is acknowledged and out."""
        with self.changed:
            self.running = False
            self.changed.notify_all()
        for thread in self.threads:
            thread.join(deadline_s)
            expect(not thread.is_alive(), f"the last number is not taken within {deadline_s} s")
        wait_for(lambda: all(len(way.acknowledged) == way.offered for way in self.ways.values()),
                 "the broker acknowledges all that was published", deadline_s)
        self.wait_out(self.under_way(), deadline_s)

    def verdict(self):
        """Fails unless everything came out, as itself, and was counted once."""
        with self.lock:
            expect(not self.faults, f"{len(self.faults)} wrong outputs: {self.faults[:5]}")
            for name, way in self.ways.items():
                totals = sorted(total for _, total in way.came.values())
                expect(totals == list(range(1, way.offered + 1)),
                       f"{name}: the running count does not go from 1 to {way.offered} "
                       f"without a gap: state was lost, or a number counted twice")
            return ", ".join(
                f"{way.offered} by {name} ({way.repeats} deliveries repeated, under their ids)"
                for name, way in self.ways.items())

    def close(self):
        with self.changed:
            self.running = False
            self.changed.notify_all()
        self.collector.close()
        self.publisher.close()


def configuration(folder_in_machine, broker_port):
    """The files of the gateway, by path."""
    folder = pathlib.PurePosixPath(folder_in_machine)
    return {
        str(folder / "eventflux.toml"): '[application]\nname = "gateway"\nsql = "plant.sql"\n\n'
        '[checkpoint]\ninterval = "2 s"\n',
        str(folder / "plant.sql"): SQL.format(broker=broker_port),
    }
