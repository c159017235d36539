"""A virtual machine: its disk (`disk.py`), qemu, its agent, and its power switch.

The disk is a copy of the image's. It stays over stops, reboots and cuts; all that qemu and the
disk's cache had only in memory is gone with a cut. What the kernel says is in `<name>-<boot>.log`.
"""

import base64
import json
import os
import pathlib
import select
import shutil
import signal
import socket
import subprocess
import sys
import time

from words import Failure, say

MEMORY_MIB = 512
# Emulation of a machine that is slow itself: what takes a second may take a minute.
BOOT_S, COMMAND_S, STOP_S, FLUSH_S = 300, 120, 180, 60

QEMU = {
    "amd64": ["qemu-system-x86_64", "-M", "q35"],
    "arm64": ["qemu-system-aarch64", "-M", "virt"],
    "armhf": ["qemu-system-arm", "-M", "virt"],
}
EMULATED = {"amd64": "max", "arm64": "cortex-a53", "armhf": "cortex-a15"}
# An emulator that has to wait for its turn makes the timer look broken to the kernel of amd64.
KERNEL = {"amd64": "console=ttyS0 no_timer_check", "arm64": "console=ttyAMA0",
          "armhf": "console=ttyAMA0"}
NATIVE = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "armhf"}
# How long a kernel may take to find that it has no disk, under KVM.
PROBE_S = 10


def accelerator(image, architecture):
    """Words for qemu: KVM if a kernel really runs with it, else emulation."""
    emulate = ["-accel", "tcg,thread=multi", "-cpu", EMULATED[architecture]]
    if NATIVE.get(os.uname().machine) != architecture or not os.access("/dev/kvm", os.W_OK):
        return emulate
    native = ["-accel", "kvm", "-cpu", "host"]
    probe = [*QEMU[architecture], *native, "-m", "256", "-nographic", "-nic", "none", "-no-reboot",
             "-kernel", image.kernel, "-append", "panic=-1"]
    try:
        done = subprocess.run(probe, timeout=PROBE_S, capture_output=True, check=False,
                              stdin=subprocess.DEVNULL)
        if done.returncode == 0:
            return native
    except subprocess.TimeoutExpired:
        pass
    say("KVM does not run a kernel here: emulating, which is slower")
    return emulate


class Machine:
    """One machine, on or off."""

    def __init__(self, image, architecture, folder, accelerate):
        self.image, self.architecture, self.folder = image, architecture, folder
        self.accelerate = accelerate
        self.boots = 0
        self.qemu = self.disk_server = self.agent = self.line = None
        self.buffer = b""
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("console-*.log"):
            old.unlink()
        self.disk = folder / "disk.ext4"
        subprocess.run(["cp", image.disk, self.disk], check=True)
        # Files for the machine: a drive that holds nothing but a tar archive.
        self.files = folder / "files.tar"

    def carry(self, paths):
        """Lays files beside the machine; `/root/NAME` after the next start."""
        words = [word for path in paths for word in ("-C", path.parent, path.name)]
        subprocess.run(["tar", "-cf", self.files, *words], check=True)

    def start(self, forward=None, cable=True, survive="none", seed=0):
        """Switches it on and waits for the agent. With `forward`, a list of pairs of a port here
        and a port there, it has a network card; without, none. What a later cut leaves of the
        disk's cache is up to `survive` and `seed`."""
        self.boots += 1
        self.console = self.folder / f"console-{self.boots}.log"
        # Paths of sockets are short; these lie in the folder in which all programs run.
        for name in ("disk.socket", "agent.socket", "line.socket", "control.socket"):
            (self.folder / name).unlink(missing_ok=True)
        self.disk_server = subprocess.Popen(
            [sys.executable, pathlib.Path(__file__).parent / "disk.py", "disk.socket",
             self.disk.name, "--survive", survive, "--seed", str(seed)],
            cwd=self.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.disk_server.stdout.readline() != "listening\n":
            raise Failure("the disk's server does not start: see what Python said above")
        self.errors = self.folder / "qemu.log"
        with open(self.errors, "ab") as errors:
            self.qemu = subprocess.Popen(self.words(forward), cwd=self.folder,
                                         stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)
        self.agent = self.connect("agent.socket")
        self.line = self.connect("line.socket")
        self.buffer = b""
        if forward is not None and not cable:
            self.cable(False)
        if self.answer(BOOT_S, "the boot") != b"ready":
            raise self.fault("the agent says something else than that it is ready")
        if self.files.exists():
            self.run("tar -C /root -xf /dev/vdb")

    def words(self, forward):
        network = ["-nic", "none"]
        if forward is not None:
            ports = "".join(f",hostfwd=tcp:127.0.0.1:{here}-:{there}" for here, there in forward)
            network = ["-netdev", f"user,id=network{ports}",
                       "-device", "virtio-net-pci,netdev=network,romfile="]
        files = []
        if self.files.exists():
            files = ["-drive", f"file={self.files.name},format=raw,if=none,id=files,readonly=on",
                     "-device", "virtio-blk-pci,drive=files"]
        return [
            *QEMU[self.architecture], *self.accelerate, "-smp", "2", "-m", str(MEMORY_MIB),
            "-display", "none", "-monitor", "none", "-no-reboot",
            "-chardev", f"file,id=console,path={self.console.name}", "-serial", "chardev:console",
            "-kernel", self.image.kernel, "-initrd", self.image.initrd,
            "-append", f"{KERNEL[self.architecture]} root=/dev/vda rw panic=-1 quiet",
            # Flushes go through (no `cache.no-flush`), and nothing is kept here but in the server.
            "-blockdev", "driver=nbd,node-name=disk,server.type=unix,server.path=disk.socket",
            "-device", "virtio-blk-pci,drive=disk,write-cache=on", *files, *network,
            "-device", "virtio-serial-pci",
            "-qmp", "unix:control.socket,server=on,wait=off",
            "-chardev", "socket,id=agent,path=agent.socket,server=on,wait=off",
            "-device", "virtserialport,chardev=agent,name=booted",
            # An FTDI adapter, the most usual one.
            "-chardev", "socket,id=line,path=line.socket,server=on,wait=off",
            "-device", "qemu-xhci", "-device", "usb-serial,chardev=line",
            "-object", "rng-random,filename=/dev/urandom,id=dice",
            "-device", "virtio-rng-pci,rng=dice",
        ]

    def cable(self, plugged):
        """Plugs the network cable in, or out."""
        control = self.connect("control.socket")
        with control, control.makefile("rw") as file:
            file.readline()
            set_link = {"execute": "set_link", "arguments": {"name": "network", "up": plugged}}
            for command in ({"execute": "qmp_capabilities"}, set_link):
                file.write(json.dumps(command) + "\n")
                file.flush()
                answer = json.loads(file.readline())
                if "error" in answer:
                    raise Failure(f"qemu refuses {command}: {answer}")

    def connect(self, name):
        path, deadline = self.folder / name, time.monotonic() + 30
        here = os.open(".", os.O_RDONLY)
        os.chdir(self.folder)
        try:
            while True:
                connection = socket.socket(socket.AF_UNIX)
                try:
                    connection.connect(name)
                    return connection
                except OSError:
                    connection.close()
                if self.qemu.poll() is not None:
                    raise Failure(f"qemu does not start: {self.errors.read_text()[-2000:]}")
                if time.monotonic() > deadline:
                    raise Failure(f"qemu does not listen on {path} within 30 s")
                select.select([], [], [], 0.01)
        finally:
            os.fchdir(here)
            os.close(here)

    def answer(self, deadline_s, what):
        """The next line of the agent."""
        deadline = time.monotonic() + deadline_s
        while b"\n" not in self.buffer:
            left = deadline - time.monotonic()
            if left <= 0:
                raise self.fault(f"{what} takes more than {deadline_s} s")
            if self.qemu.poll() is not None:
                raise self.fault(f"the machine went off during {what}")
            if select.select([self.agent], [], [], min(left, 1))[0]:
                self.buffer += self.agent.recv(1 << 16)
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line

    def ask(self, command, deadline_s=COMMAND_S):
        """Exit code and output of a command."""
        self.agent.sendall(base64.b64encode(command.encode()) + b"\n")
        code, output = self.answer(deadline_s, f"`{command}`").split(b" ", 1)
        return int(code), base64.b64decode(output).decode(errors="replace").strip()

    def run(self, command, deadline_s=COMMAND_S):
        """The output of a command that must succeed."""
        code, output = self.ask(command, deadline_s)
        if code != 0:
            raise Failure(f"`{command}` ends with {code}: {output}")
        return output

    def wait(self, command, what, deadline_s=COMMAND_S):
        """Waits, in the machine, until a command succeeds; its output."""
        # One process after the other costs more than the command itself: so a pause, too.
        loop = (f"end=$((SECONDS + {deadline_s}))\n"
                f"until output=$({command}\n); do\n"
                '[ "$SECONDS" -lt "$end" ] || { printf %s "$output"; exit 1; }\nsleep 0.1\ndone\n'
                'printf %s "$output"')
        code, output = self.ask(loop, deadline_s + 30)
        if code != 0:
            raise Failure(f"{what}: not within {deadline_s} s; `{command}` says: {output}")
        return output

    def write(self, path, text):
        """A file in the machine."""
        encoded = base64.b64encode(text.encode()).decode()
        self.run(f"mkdir -p $(dirname {path}) && echo {encoded} | base64 -d >{path}")

    def fault(self, text):
        tail = ""
        if self.console.exists():
            tail = "\n".join(self.console.read_text(errors="replace").splitlines()[-40:])
        return Failure(f"{text}; the console ({self.console}) ends with:\n{tail}")

    def cut(self):
        """Pulls the plug while the disk has unflushed writes; what became of these."""
        self.disk_server.send_signal(signal.SIGUSR1)
        if not select.select([self.disk_server.stdout], [], [], FLUSH_S)[0]:
            raise self.fault(f"the machine has written nothing for {FLUSH_S} s")
        account = self.disk_server.stdout.readline().strip()
        self.qemu.kill()
        self.qemu.wait()
        self.forget()
        return account

    def forget(self):
        """The disk's cache is gone, and the connections to a machine that is off."""
        self.disk_server.kill()
        self.disk_server.wait()
        for file in (self.agent, self.line, self.disk_server.stdin, self.disk_server.stdout):
            file.close()
        self.qemu = None

    def stop(self):
        """Switches it off in order; what the disk's cache then holds is lost as well."""
        self.agent.sendall(base64.b64encode(b"systemctl poweroff --no-block") + b"\n")
        try:
            self.qemu.wait(STOP_S)
        except subprocess.TimeoutExpired:
            raise self.fault(f"the machine does not switch itself off within {STOP_S} s") from None
        self.forget()

    def end(self):
        """Whatever is still there goes; the copy of the disk too."""
        for process in (self.qemu, self.disk_server):
            if process and process.poll() is None:
                process.kill()
                process.wait()
        self.disk.unlink(missing_ok=True)
        self.files.unlink(missing_ok=True)


def fresh(folder):
    """An empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
