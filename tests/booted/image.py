"""Builds what is booted: a kernel, an initrd and the disk of a minimal Debian with systemd.

Everything lies in `target/booted/<release>-<architecture>/` and is made again only when this file
changes; the packages, which take longest, only when their list does. The disk has what the package
under test depends on, mosquitto, and an agent that runs commands for the test (`machine.py`), but
no EventFlux. It needs neither a loop device nor a bootloader. Packages of other architectures come
through a state of apt of our own, so that the machine's stays as it is; the mirrors are those of
the machine.
"""

import gzip
import hashlib
import lzma
import os
import pathlib
import shutil
import subprocess
import tempfile

from words import Failure, say

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
DISK_BYTES = 1536 << 20

# What the package needs (apt may not fetch anything later), what the test needs.
PACKAGES = (
    "adduser ca-certificates libsystemd0 libgcc-s1 init-system-helpers "
    "systemd systemd-sysv udev dbus kmod procps iproute2 apt mosquitto mosquitto-clients"
).split()

# In the initrd: what finds and mounts the disk.
MODULES_EARLY = "virtio_pci virtio_mmio virtio_blk crc32c_generic ext4".split()
# On the disk: the agent's line, a network card, and a USB adapter for a serial line.
MODULES_LATE = (
    "virtio_net virtio_console virtio_rng xhci_pci usbserial ftdi_sio autofs4 8250_pci"
).split()

KERNEL_PACKAGES = {
    "amd64": "linux-image-amd64",
    "arm64": "linux-image-arm64",
    "armhf": "linux-image-armmp-lpae",
}

AGENT = r"""#!/bin/bash
# Runs what the host asks for: a line is a command in Base64, the answer its exit code and output.
exec 3<>/dev/virtio-ports/booted
echo ready >&3
while read -r line <&3; do
  output=$(base64 -d <<<"$line" | bash 2>&1 3>&-)
  printf '%s %s\n' "$?" "$(base64 -w0 <<<"$output")" >&3
done
"""

AGENT_UNIT = """[Unit]
Description=Runs the commands of the test
Requires=dev-virtio\\x2dports-booted.device
After=dev-virtio\\x2dports-booted.device

[Service]
ExecStart=/usr/local/sbin/booted-agent
Restart=always
OOMScoreAdjust=-1000

[Install]
WantedBy=multi-user.target
"""

# Without a name server and without waiting: what qemu's user network has is always the same.
NETWORK = """[Match]
Name=e*

[Network]
Address=10.0.2.15/24
Gateway=10.0.2.2
LinkLocalAddressing=no
"""

INIT = """#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs dev /dev
while read -r module; do $b insmod "/modules/$module"; done </modules/order
tries=0
until [ -b /dev/vda ]; do
  tries=$((tries + 1))
  [ $tries -lt 6000 ] || { echo "booted: /dev/vda does not appear"; $b poweroff -f; }
  $b usleep 10000
done
$b mount -t ext4 /dev/vda /root || { echo "booted: /dev/vda cannot be mounted"; $b poweroff -f; }
$b mount --move /dev /root/dev
exec $b switch_root /root /sbin/init
"""


def run(*command, **options):
    """The output of a command, or a failure with what it said."""
    command = [str(word) for word in command]
    done = subprocess.run(command, text=True, capture_output=True, check=False, **options)
    if done.returncode != 0:
        raise Failure(f"`{' '.join(command)}` failed: {done.stdout}{done.stderr}".strip())
    return done.stdout


class Apt:
    """apt for one architecture and release, beside the machine's own."""

    def __init__(self, folder, architecture, release):
        self.folder, self.architecture = folder, architecture
        for name in ("lists/partial", "cache/archives/partial", "packages"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.sources = sources(architecture, release)
        (folder / "sources.list").write_text("".join(f"{line}\n" for line in self.sources))
        self("update", "-qq")

    def command(self, program):
        setting = {
            "APT::Architecture": self.architecture,
            "APT::Architectures": self.architecture,
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Dir::Etc::SourceList": self.folder / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::State::Lists": self.folder / "lists",
            "Dir::Cache": self.folder / "cache",
            "Dir::State::status": "/dev/null",
        }
        words = [word for key, value in setting.items() for word in ("-o", f"{key}={value}")]
        return [program, *words]

    def __call__(self, *words):
        return run(*self.command("apt-get"), *words, cwd=self.folder / "packages")

    def depends(self, package):
        """What a package depends on, by name."""
        lines = run(*self.command("apt-cache"), "depends", package).splitlines()
        return [line.split("Depends: ")[1] for line in lines if line.startswith("  Depends: ")]

    def unpack(self, package, to):
        self("download", "-qq", package)
        (file,) = (self.folder / "packages").glob(f"{package}_*.deb")
        run("dpkg-deb", "-x", file, to)
        file.unlink()


def sources(architecture, release):
    """Lines for sources.list, with the mirrors that the machine's apt uses."""
    mirrors = {}
    form = "$(LABEL)\t$(REPO_URI)"
    for line in run("apt-get", "indextargets", "--format", form).splitlines():
        label, address = line.split("\t")
        mirrors.setdefault(label, address)
    if "Debian" not in mirrors:
        raise Failure("apt has no index of Debian: run `apt-get update` on a machine with Debian")
    if not os.path.exists(KEYRING):
        raise Failure(f"{KEYRING} is missing: install debian-archive-keyring")
    lines = [f"deb [signed-by={KEYRING}] {mirrors['Debian']} {release} main"]
    # Not all mirrors have the security archive of armhf in order; nothing here depends on it.
    if "Debian-Security" in mirrors and architecture != "armhf":
        security = mirrors["Debian-Security"]
        lines.append(f"deb [signed-by={KEYRING}] {security} {release}-security main")
    return lines


class Image:
    """The files to boot from."""

    def __init__(self, folder):
        self.folder = folder
        self.kernel, self.initrd = folder / "kernel", folder / "initrd"
        self.disk = folder / "disk.ext4"


def image(folder, architecture, release):
    """The image, built when it is not there."""
    made = Image(folder / f"{release}-{architecture}")
    stamp = made.folder / "stamp"
    key = hashlib.sha256(pathlib.Path(__file__).read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == key:
        return made
    say(f"building the image of {release} for {architecture}")
    made.folder.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)
    apt = Apt(made.folder / "apt", architecture, release)
    with tempfile.TemporaryDirectory(dir=made.folder) as scratch:
        build(made, apt, architecture, release, pathlib.Path(scratch))
    shutil.rmtree(made.folder / "apt")
    stamp.write_text(key)
    return made


def build(made, apt, architecture, release, scratch):
    kernel, extra = scratch / "kernel", scratch / "extra"
    version = unpack_kernel(apt, architecture, kernel)
    shutil.copy(kernel / "boot" / f"vmlinuz-{version}", made.kernel)
    apt.unpack("busybox-static", scratch / "busybox")
    early = closure(kernel, version, MODULES_EARLY)
    write_initrd(made.initrd, scratch, early)

    base = packages(made.folder, apt, architecture, release, scratch)
    late = closure(kernel, version, MODULES_EARLY + MODULES_LATE)
    for module in late:
        place = extra / module.relative_to(kernel)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(module, place)
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        shutil.copy(kernel / "lib/modules" / version / name, extra / "lib/modules" / version)
    run("depmod", "-b", extra, version)
    write_extra(extra)
    write_disk(made.disk, scratch, base, extra)


def packages(folder, apt, architecture, release, scratch):
    """A tar archive of Debian with the packages, and nothing of ours."""
    options = [
        "--variant=minbase", f"--include={','.join(PACKAGES)}",
        '--aptopt=Acquire::Languages "none"',
        "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
    ]
    key = hashlib.sha256("\n".join(options).encode()).hexdigest()[:16]
    base = folder / f"base-{key}.tar"
    if not base.exists():
        emulation(architecture)
        for old in folder.glob("base-*.tar"):
            old.unlink()
        run("mmdebstrap", "--quiet", f"--architectures={architecture}", *options,
            release, scratch / "base.tar", *apt.sources)
        (scratch / "base.tar").rename(base)
    return base


def emulation(architecture):
    """Makes sure that programs of the architecture run while its packages are installed."""
    if subprocess.run(["arch-test", architecture], capture_output=True, check=False).returncode:
        # In a container nobody has told the kernel yet.
        mount = "[ -e /proc/sys/fs/binfmt_misc/register ] || " \
                "mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc"
        qemu = {"amd64": "qemu-x86_64", "arm64": "qemu-aarch64", "armhf": "qemu-arm"}[architecture]
        enable = f"({mount}) && update-binfmts --enable {qemu}"
        done = subprocess.run(["sh", "-c", enable], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failure(f"programs of {architecture} do not run here, and as user "
                          f"{os.geteuid()} `{enable}` says: {done.stderr.strip()}")


def unpack_kernel(apt, architecture, to):
    """The kernel's version. Its package is unpacked: installing it would build another initrd."""
    (package,) = [name for name in apt.depends(KERNEL_PACKAGES[architecture]) if name[-1].isalnum()]
    apt.unpack(package, to)
    version = package.removeprefix("linux-image-")
    if not (to / "lib/modules").exists():
        (to / "lib").mkdir(exist_ok=True)
        (to / "usr/lib/modules").rename(to / "lib/modules")
    run("depmod", "-b", to, version)
    return version


def closure(kernel, version, names):
    """The files of modules and of those that they need, in the order in which they are loaded."""
    folder = kernel / "lib/modules" / version
    needs, files = {}, {}
    for line in (folder / "modules.dep").read_text().splitlines():
        file, rest = line.split(":")
        needs[file] = rest.split()
        files[pathlib.Path(file).name.split(".")[0].replace("-", "_")] = file
    builtin = {
        pathlib.Path(line).stem.replace("-", "_")
        for line in (folder / "modules.builtin").read_text().splitlines()
    }
    order = []
    for name in names:
        if name in builtin or (name not in files and name == "virtio_mmio"):
            continue
        if name not in files:
            raise Failure(f"the kernel {version} has no module {name}")
        # modules.dep names what a module needs from near to far.
        for file in [*reversed(needs[files[name]]), files[name]]:
            if file not in order:
                order.append(file)
    return [folder / file for file in order]


def write_initrd(path, scratch, modules):
    root = scratch / "initrd"
    for name in ("bin", "dev", "root", "modules"):
        (root / name).mkdir(parents=True)
    # Newer releases have it in /usr.
    for place in ("bin/busybox", "usr/bin/busybox"):
        if (scratch / "busybox" / place).exists():
            shutil.copy(scratch / "busybox" / place, root / "bin/busybox")
    (root / "init").write_text(INIT)
    (root / "init").chmod(0o755)
    names = []
    for module in modules:
        data, name = module.read_bytes(), module.name
        if name.endswith(".xz"):
            data, name = lzma.decompress(data), name.removesuffix(".xz")
        (root / "modules" / name).write_bytes(data)
        names.append(name)
    (root / "modules/order").write_text("".join(f"{name}\n" for name in names))
    run("sh", "-c", 'cd "$1" && find . | cpio -o -H newc --quiet -R 0:0 >"$2"', "sh",
        root, scratch / "initrd.cpio")
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write((scratch / "initrd.cpio").read_bytes())


def write_extra(root):
    """What comes on top of the plain Debian."""
    def put(path, text, mode=0o644):
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def link(path, to):
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.symlink_to(to)

    units = "etc/systemd/system"
    put("usr/local/sbin/booted-agent", AGENT, 0o755)
    put(f"{units}/booted-agent.service", AGENT_UNIT)
    link(f"{units}/multi-user.target.wants/booted-agent.service", "../booted-agent.service")
    put("etc/systemd/network/20-qemu.network", NETWORK)
    link(f"{units}/multi-user.target.wants/systemd-networkd.service",
         "/lib/systemd/system/systemd-networkd.service")
    put("etc/hostname", "gateway\n")
    put("etc/hosts", "127.0.0.1 localhost\n127.0.1.1 gateway\n")
    # The journal outlives a reboot, as on a gateway whose owner wants to know what happened.
    put("etc/systemd/journald.conf.d/booted.conf", "[Journal]\nStorage=persistent\n")
    # By itself mosquitto drops what is beyond 1000 messages for a client that is away.
    put("etc/mosquitto/conf.d/booted.conf", "max_queued_messages 0\nset_tcp_nodelay true\n")
    # Nobody logs in; timers of apt and others would disturb what is measured.
    for unit in ("serial-getty@.service", "getty@.service", "console-getty.service",
                 "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer",
                 "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer",
                 "systemd-networkd-wait-online.service"):
        link(f"{units}/{unit}", "/dev/null")


def write_disk(path, scratch, base, extra):
    """The file system. Without root's rights fakeroot remembers the owners."""
    root = scratch / "root"
    script = """
      mkdir "$1" && tar -C "$1" -xpf "$2" --exclude=./dev/* && chown -R 0:0 "$3"
      # Debian's /lib is a link: what lies below it goes where it leads.
      tar -C "$3" -cf - . | tar -C "$1" -xf - --keep-directory-symlink --no-overwrite-dir
      mke2fs -q -t ext4 -L root -d "$1" "$4" "$5"
    """
    words = ["bash", "-euo", "pipefail", "-c", script, "bash",
             root, base, extra, path, f"{DISK_BYTES >> 10}k"]
    run(*(words if os.geteuid() == 0 else ["fakeroot", *words]))
