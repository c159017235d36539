"""The package on a machine without a network: installed, running, held in, working, heard."""

import json
import re

import gateway
from words import expect, wait_for

SCORE_MAX = 1.5
MEMORY_MAX_BYTES = 96 << 20

CONFIGURATION = """[application]
name = "plant"
sql = "plant.sql"
mqtt.broker = "mqtt://127.0.0.1"
"""

SQL = """
CREATE STREAM Readings (device STRING, temp DOUBLE) WITH ('type' = 'source', 'extension' = 'mqtt',
  'format' = 'json', 'mqtt.topic' = 'plant/+/temp');
CREATE STREAM Alerts (device STRING, temp DOUBLE) WITH ('type' = 'sink', 'extension' = 'mqtt',
  'mqtt.topic' = 'alerts');
CREATE STREAM Totals (device STRING, total BIGINT) WITH ('type' = 'sink', 'extension' = 'mqtt',
  'mqtt.topic' = 'totals');
INSERT INTO Alerts SELECT device, temp FROM Readings WHERE temp > 80;
INSERT INTO Totals SELECT device, count(*) AS total FROM Readings GROUP BY device;
"""

# A scale behind an FTDI adapter, which is answered.
SERIAL = """
CREATE STREAM Scale (grams BIGINT) WITH ('type' = 'source', 'extension' = 'serial',
  'format' = 'json', 'serial.port' = 'usb:0403:6001');
CREATE STREAM Weights (grams BIGINT) WITH ('type' = 'sink', 'extension' = 'mqtt',
  'mqtt.topic' = 'weights');
CREATE STREAM Answers (seen BIGINT) WITH ('type' = 'sink', 'extension' = 'serial',
  'format' = 'json', 'serial.port' = 'usb:0403:6001');
INSERT INTO Weights SELECT grams FROM Scale;
INSERT INTO Answers SELECT grams AS seen FROM Scale;
"""


def installs(gate):
    """One command, no network; then it runs and will run after every boot."""
    machine = gate.machine
    expect(machine.run("ip route") == "", "the machine has a network: the test is wrong")
    gate.install(gate.package)
    gate.wait_active()
    expect(machine.run(f"systemctl is-enabled {gateway.UNIT}") == "enabled", "it is not enabled")
    expect(gate.show("Type").startswith("notify"), f"Type={gate.show('Type')} tells nobody when "
           "it is ready")
    expect(gate.show("NRestarts") == "0", "it needed more than one start")
    expect(gate.show("StatusText") != "", "it has no status line")


def is_held_in(gate):
    """User, rights and sandbox of the process as it runs, not as the unit wishes."""
    machine, pid = gate.machine, gate.pid()
    status = gate.status_of_process()
    user, group = machine.run("id -u eventflux"), machine.run("id -g eventflux")
    expect(set(status["Uid"].split()) == {user}, f"it runs as user {status['Uid']}")
    expect(set(status["Gid"].split()) == {group}, f"it runs as group {status['Gid']}")
    dialout = machine.run("getent group dialout | cut -d: -f3")
    expect(dialout in status["Groups"].split(), "it is not in the group dialout")
    for name, value in (("CapEff", "0" * 16), ("CapBnd", "0" * 16), ("NoNewPrivs", "1"),
                        ("Seccomp", "2")):
        expect(status[name].strip() == value, f"{name} of the process is {status[name]}")
    owner = machine.run(f"stat -c '%U:%G %a' {gateway.STATE}")
    expect(owner == "eventflux:eventflux 750", f"{gateway.STATE} is of {owner}")
    owner = machine.run(f"stat -c '%U %a' {gateway.CONFIGURATION}")
    expect(owner in ("root 644", "root 640"), f"{gateway.CONFIGURATION} is of {owner}")
    for folder in ("/etc", "/usr", "/var/lib/dpkg"):
        code, _ = machine.ask(f"nsenter -t {pid} -m touch {folder}/written")
        expect(code != 0, f"{folder} is writable where the daemon runs")
    line = machine.run(f"systemd-analyze security --no-pager {gateway.UNIT}").splitlines()[-1]
    score = float(re.search(r": ([0-9.]+) ", line).group(1))
    gate.figures["security score"] = f"{score}"
    expect(score <= SCORE_MAX, f"`systemd-analyze security` says {score}, not {SCORE_MAX} or less")


def alerts(gate):
    """The configuration is edited and reloaded, an event published, the alert seen."""
    gate.collect("alerts", "totals", "weights", "forwarded")
    gate.configure({gateway.SQL: SQL, gateway.CONFIGURATION: CONFIGURATION})
    gate.reload("the configuration has changed")
    gate.publish("plant/press-3/temp", '{"device":"press-3","temp":70}',
                 '{"device":"press-3","temp":81.5}')
    gate.wait_output('^alerts .*"press-3".*81.5', "the alert")
    gate.wait_output('^totals .*"press-3".*"total":2', "the running count")
    outputs = gate.machine.run(f"grep -c ^alerts {gateway.OUTPUTS}")
    expect(outputs == "1", f"there are {outputs} alerts, not 1")


def reads_a_serial_port(gate):
    """A USB adapter of the group dialout, as the service's user, both ways."""
    machine = gate.machine
    port = machine.wait("stat -c '%G %a' /dev/ttyUSB0", "udev has made the port")
    expect(port == "dialout 660", f"/dev/ttyUSB0 is of {port}: the test is wrong")
    gate.configure({gateway.SQL: SQL + SERIAL})
    gate.reload("the configuration has changed", 2)

    def weighed():
        # What came before the port was open is lost, and what comes first may be half a line.
        machine.line.sendall(b'{"grams":4711}\n')
        return machine.ask(f"grep -q '^weights .*4711' {gateway.OUTPUTS}")[0] == 0

    wait_for(weighed, "the serial line's message comes out", 60)
    machine.line.settimeout(30)
    heard = b""
    while b'"seen":4711' not in heard:
        heard += machine.line.recv(4096)


def speaks_to_the_journal(gate):
    """Priorities, fields to select by, and no second time stamp in the text."""
    machine = gate.machine
    machine.run("journalctl --flush --sync")
    gate.publish("plant/press-3/temp", "this is no JSON")
    warning = machine.wait(
        f"journalctl -b -u {gateway.UNIT} -o cat --no-pager -p warning..warning STREAM=Readings "
        "| grep -m1 malformed", "a warning with the field STREAM")
    expect(not re.match(r"\d{4}-\d\d-\d\d", warning), f"a time stamp in the text: {warning}")
    lines = machine.run(
        f"journalctl -b -u {gateway.UNIT} -o json --no-pager _PID={gate.pid()}").splitlines()
    rows = [json.loads(line) for line in lines]
    priorities = {row["PRIORITY"] for row in rows}
    expect({"4", "6"} <= priorities, f"only the priorities {priorities} are there")
    ready = [row for row in rows if "ready after" in str(row["MESSAGE"])]
    expect(ready and ready[0]["PRIORITY"] == "6", "no line at priority 6 says `ready after`")
    expect(ready[0].get("SYSLOG_IDENTIFIER") == "eventflux", "the identifier is not eventflux")
    connected = [row.get("STREAM") for row in rows if "connected to the broker" in row["MESSAGE"]]
    expect({"Readings", "Alerts"} <= set(connected),
           f"of the lines about connections only these streams are named: {connected}")


def obeys_a_drop_in(gate):
    """Limits and a secret that an administrator adds are in force."""
    machine = gate.machine
    machine.write("/etc/eventflux/credentials/broker", "swordfish\n")
    machine.run("chmod 600 /etc/eventflux/credentials/broker")
    machine.write(gateway.DROP_IN, "[Service]\n"
                  f"MemoryMax={MEMORY_MAX_BYTES}\nWatchdogSec=10s\n"
                  "LoadCredential=broker:/etc/eventflux/credentials/broker\n")
    gate.configure({gateway.CONFIGURATION: CONFIGURATION
                    + 'mqtt.username = "gateway"\nmqtt.password = "${secret:broker}"\n'})
    machine.run("systemctl daemon-reload")
    gate.restart()
    group = machine.run(f"cat /sys/fs/cgroup/system.slice/{gateway.UNIT}/memory.max")
    expect(group == str(MEMORY_MAX_BYTES), f"the kernel's limit is {group}")
    inside = machine.run(f"cat /sys/fs/cgroup/system.slice/{gateway.UNIT}/cgroup.procs")
    expect(str(gate.pid()) in inside.split(), "the process is not where the limit is")
    gate.publish("plant/press-4/temp", '{"device":"press-4","temp":99}')
    gate.wait_output('^alerts .*"press-4"', "an alert, with a secret from the drop-in")


PROOFS = [
    ("apt installs it without a network: enabled, active, ready", installs),
    ("its process has no rights but those it needs", is_held_in),
    ("an event is published, its alert seen", alerts),
    ("a serial port is read and written as the service's user", reads_a_serial_port),
    ("the journal has priorities and fields", speaks_to_the_journal),
    ("a drop-in's limits and secrets are in force", obeys_a_drop_in),
]
