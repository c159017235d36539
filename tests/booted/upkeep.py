"""What happens to a gateway over the years: reloads, hangs, kills, stops, upgrades, the end."""

import json
import time

import gateway
import installed
from words import expect, say

STREAM_ROWS = 3000
# shutdown.deadline, as it is by itself.
STOP_S = 10.0
FORWARD = """
CREATE STREAM Numbers (n BIGINT) WITH ('type' = 'source', 'extension' = 'mqtt', 'format' = 'json',
  'mqtt.topic' = 'numbers');
CREATE STREAM Forwarded (n BIGINT, total BIGINT) WITH ('type' = 'sink', 'extension' = 'mqtt',
  'mqtt.topic' = 'forwarded');
INSERT INTO Forwarded SELECT n, count(*) AS total FROM Numbers;
"""


def full(*more):
    return installed.SQL + installed.SERIAL + "".join(more)


def reloads_in_a_stream(gate):
    """The SQL changes while events come: none is lost or comes twice. A faulty one is refused."""
    machine = gate.machine
    gate.configure({gateway.SQL: full(FORWARD)})
    gate.reload("the configuration has changed")
    gate.wait_journal("connected")
    pid = gate.pid()
    stream(gate, 0, STREAM_ROWS)
    for turn in (2, 3):
        extra = f"CREATE STREAM Extra{turn} (device STRING) WITH ('type' = 'sink', " \
                "'extension' = 'log');\n" \
                f"INSERT INTO Extra{turn} SELECT device FROM Readings WHERE temp > 1000;\n"
        gate.configure({gateway.SQL: full(FORWARD, extra)})
        gate.reload("the configuration has changed", turn)
    gate.configure({gateway.SQL: full(FORWARD, "INSERT INTO Nowhere SELECT nothing FROM Nobody;")})
    gate.reload("the new configuration is refused, the old one goes on")
    arrived = machine.run(f"grep -c ^forwarded {gateway.OUTPUTS}")
    say(f"  reloaded twice and refused once by the time {arrived} of {STREAM_ROWS} were out")
    gate.wait_output(f'^forwarded .*"n":{STREAM_ROWS - 1}[,}}]', "the stream's end", 180)
    check_forwarded(gate, STREAM_ROWS)
    expect(gate.pid() == pid, "it was restarted, not reloaded")
    expect(machine.run(f"systemctl is-active {gateway.UNIT}") == "active", "it is not active")
    gate.configure({gateway.SQL: full(FORWARD)})
    gate.reload("the configuration has changed", 4)


def stream(gate, begin, end):
    """Numbers are published from here on, some hundred a second; the first have come out."""
    gate.machine.run(
        f"systemd-run --unit=stream-{begin} bash -c 'for ((n = {begin}; n < {end}; n++)); do "
        "echo \"{\\\"n\\\":$n}\"; ((n % 10)) || sleep 0.02; done "
        "| mosquitto_pub -h 127.0.0.1 -q 1 -t numbers -l'")
    gate.wait_output(f'^forwarded .*"n":{begin + 100}[,}}]', "the stream flows")


def check_forwarded(gate, count):
    """Numbers and running counts agree, in order, and each has come once."""
    lines = gate.machine.run(f"grep ^forwarded {gateway.OUTPUTS}").splitlines()
    rows = [json.loads(line.split(" ", 1)[1]) for line in lines]
    got = [(row["n"], row["total"]) for row in rows]
    expect(got == [(n, n + 1) for n in range(count)],
           f"of {count} numbers {len(got)} came out, {len(set(got))} different ones; the first "
           f"that is wrong: {next((r for i, r in enumerate(got) if r != (i, i + 1)), None)}")


def is_watched(gate):
    """A process that hangs is replaced by the watchdog, one that is killed by systemd."""
    machine = gate.machine
    expect(gate.show("WatchdogUSec") == "10s", f"the watchdog waits {gate.show('WatchdogUSec')}")
    for signal, says in (("STOP", "Watchdog timeout"), ("KILL", "code=killed, status=9/KILL")):
        pid, restarts = gate.pid(), int(gate.show("NRestarts"))
        begin = time.monotonic()
        machine.run(f"kill -{signal} {pid}")
        machine.wait(f"test $(systemctl show -P NRestarts {gateway.UNIT}) -gt {restarts} "
                     f"&& systemctl is-active {gateway.UNIT}", "systemd starts it again", 150)
        took = time.monotonic() - begin
        expect(gate.pid() != pid, "the same process goes on")
        machine.wait(f"journalctl -b -u {gateway.UNIT} --no-pager -o cat | grep -F '{says}'",
                     f"the journal says `{says}`")
        gate.figures[f"SIG{signal} to ready again"] = f"{took:.1f} s"
    gate.publish("plant/press-5/temp", '{"device":"press-5","temp":99}')
    gate.wait_output('^alerts .*"press-5"', "an alert afterwards")


def stops_in_order(gate):
    """A stop in a stream ends in time with exit code 0; afterwards all that was sent comes out."""
    machine = gate.machine
    stream(gate, STREAM_ROWS, 2 * STREAM_ROWS)
    begin = time.monotonic()
    machine.run(f"systemctl stop {gateway.UNIT}", 120)
    took = time.monotonic() - begin
    expect(gate.show("Result") == "success" and gate.show("ExecMainStatus") == "0",
           f"it ended with {gate.show('ExecMainStatus')}, {gate.show('Result')}")
    expect(took <= STOP_S, f"it took {took:.1f} s to stop, more than shutdown.deadline")
    gate.figures["stop in a stream"] = f"{took:.1f} s"
    arrived = machine.run(f"grep -c ^forwarded {gateway.OUTPUTS}")
    machine.run(f"systemctl start {gateway.UNIT}")
    say(f"  stopped when {int(arrived) - STREAM_ROWS} of {STREAM_ROWS} were out")
    gate.wait_output(f'^forwarded .*"n":{2 * STREAM_ROWS - 1}[,}}]', "the stream's end", 180)
    check_forwarded(gate, 2 * STREAM_ROWS)


def upgrades(gate):
    """A later package keeps the state, and the configuration as the administrator left it."""
    machine = gate.machine
    gate.publish("plant/press-7/temp", *['{"device":"press-7","temp":1}'] * 2)
    gate.wait_output('^totals .*"press-7".*"total":2', "the running count before")
    before = machine.run(f"sha256sum {gateway.CONFIGURATION} {gateway.SQL}")
    pid = gate.pid()
    gate.install(gate.newer)
    gate.wait_active()
    version = machine.run("dpkg-query -W -f '${Version}' eventflux")
    expect(version.endswith("+booted1"), f"version {version} is installed")
    expect(gate.pid() != pid, "the old process goes on")
    gate.publish("plant/press-7/temp", '{"device":"press-7","temp":1}')
    gate.wait_output('^totals .*"press-7".*"total":3', "the running count goes on")
    expect(machine.run(f"sha256sum {gateway.CONFIGURATION} {gateway.SQL}") == before,
           "the upgrade has changed what the administrator wrote")
    machine.run(f"test -e {gateway.CONFIGURATION}.dpkg-dist")


def purges(gate):
    """Nothing is left but what an administrator wrote outside of the package's folders."""
    machine = gate.machine
    machine.run(f"rm -rf $(dirname {gateway.DROP_IN})")
    machine.run("DEBIAN_FRONTEND=noninteractive apt-get purge -y -q eventflux", 300)
    left = machine.run(
        "find / -xdev -iname '*eventflux*' -not -path '/root/*' -not -path '/proc/*'; "
        "getent passwd eventflux; getent group eventflux; pgrep -a eventflux; "
        "systemctl list-unit-files --no-legend '*eventflux*'; "
        "getent group dialout | grep eventflux; true")
    expect(left == "", f"purging leaves: {left}")
    expect(machine.ask(f"systemctl cat {gateway.UNIT}")[0] != 0, "the unit is still known")
    failed = machine.run("systemctl --failed --no-legend --plain")
    expect("eventflux" not in failed, f"systemd still says: {failed}")


PROOFS = [
    ("it reloads in a stream and loses nothing; a faulty configuration is refused",
     reloads_in_a_stream),
    ("the watchdog replaces a hanging process, systemd a killed one", is_watched),
    ("it stops in order, in time, with exit code 0", stops_in_order),
    ("an upgrade keeps state and configuration", upgrades),
]
END = [("purging leaves nothing", purges)]
