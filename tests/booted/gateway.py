"""The gateway under test: a machine with the package, and what the proofs ask it."""

import pathlib
import re
import subprocess
import tempfile

from words import Failure, expect

UNIT = "eventflux.service"
CONFIGURATION = "/etc/eventflux/eventflux.toml"
SQL = "/etc/eventflux/plant.sql"
STATE = "/var/lib/eventflux"
# Where the drop-in of a test lies, as an administrator would put it.
DROP_IN = f"/etc/systemd/system/{UNIT}.d/booted.conf"
OUTPUTS = "/root/outputs"


class Gateway:
    """A machine, the package, and the same package with a higher version."""

    def __init__(self, machine, package):
        self.machine = machine
        self.package = package
        self.newer = newer(package, machine.folder)
        machine.carry([self.package, self.newer])
        self.figures = {}

    def show(self, name):
        """A property of the unit."""
        return self.machine.run(f"systemctl show -P {name} {UNIT}")

    def pid(self):
        return int(self.show("MainPID"))

    def wait_active(self, deadline_s=120):
        self.machine.wait(f"systemctl is-active {UNIT}", f"{UNIT} is active", deadline_s)

    def restart(self):
        self.machine.run(f"systemctl restart {UNIT}", 180)
        self.wait_active()

    def install(self, package):
        """As the README says it, with nobody there to answer questions."""
        self.machine.run(
            "DEBIAN_FRONTEND=noninteractive apt-get install -y -q "
            "-o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "
            f"/root/{package.name}", 600)

    def configure(self, files):
        for path, text in files.items():
            # Aside and renamed, so that nobody reads it half written.
            self.machine.write(f"{path}.new", text)
            self.machine.run(f"chmod 644 {path}.new && mv {path}.new {path}")

    def reload(self, says, count=1):
        """Reloads, and waits until the journal has a line so many times since the last start."""
        self.machine.run(f"systemctl reload {UNIT}")
        self.wait_journal(says, count)

    def journal(self, matches=""):
        return self.machine.run(f"journalctl -b -u {UNIT} --no-pager -o cat {matches}")

    def wait_journal(self, says, count=1, deadline_s=60):
        self.machine.wait(
            f"test $(journalctl -b -u {UNIT} --no-pager -o cat _PID=$(systemctl show -P MainPID "
            f"{UNIT}) | grep -cF '{says}') -ge {count}",
            f"the journal has `{says}` {count} times", deadline_s)

    def publish(self, topic, *messages):
        """Publishes in the machine, at its own broker."""
        for message in messages:
            self.machine.run(f"mosquitto_pub -h 127.0.0.1 -q 1 -t {topic} -m '{message}'")

    def collect(self, *topics):
        """From here on what comes out at the machine's own broker is in a file, line by line."""
        words = "mosquitto_sub -h 127.0.0.1 -i collector -c -q 1 "
        words += " ".join(f"-t {topic}" for topic in topics)
        # The session first: it is there when this returns, and then misses nothing.
        self.machine.run(f"{words} -E")
        self.machine.run(f"systemd-run --unit=collector -p StandardOutput=append:{OUTPUTS} "
                         f"{words} -F '%t %p'")

    def wait_output(self, pattern, what, deadline_s=60):
        return self.machine.wait(f"grep -E '{pattern}' {OUTPUTS}", what, deadline_s)

    def status_of_process(self):
        lines = self.machine.run(f"cat /proc/{self.pid()}/status").splitlines()
        return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def newer(package, folder):
    """The package once more, with a higher version and another configuration file as shipped."""
    made = folder / f"newer_{package.name}"
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        root = pathlib.Path(scratch) / "root"
        subprocess.run(["dpkg-deb", "-R", package, root], check=True)
        control = root / "DEBIAN/control"
        text, count = re.subn(r"(?m)^Version: (.*)$", r"Version: \1+booted1", control.read_text())
        expect(count == 1, f"{package} has no version")
        control.write_text(text)
        shipped = root / CONFIGURATION.lstrip("/")
        if not shipped.exists():
            raise Failure(f"{package} has no {CONFIGURATION}")
        shipped.write_text(f"{shipped.read_text()}\n# A later version says more.\n")
        sums = root / "DEBIAN/md5sums"
        if sums.exists():
            kept = [line for line in sums.read_text().splitlines()
                    if not line.endswith(CONFIGURATION.lstrip("/"))]
            sums.write_text("".join(f"{line}\n" for line in kept))
        subprocess.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "-b", root, made],
                       check=True, stdout=subprocess.DEVNULL)
    return made
