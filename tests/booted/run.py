#!/usr/bin/env python3
"""Proves the package on Debian that is really booted, with power that is really cut.

For each architecture: a machine without a network takes the package, and the service works there
(installed.py); what it costs (figures.py); reloads, hangs, stops and upgrades (upkeep.py); other
configurations come from afar (afar.py); then numbers flow through it while the power is cut, again
and again, and every one that was acknowledged must come out (power.py, counting.py); at the end a
purge leaves nothing.

    run.py FOLDER --package ARCHITECTURE=FILE… [--release bookworm] [--rounds N] [--seed N]

Images and logs are in FOLDER. The exit code is 0 when all holds. Nothing is skipped: what a
machine cannot do is a failure.
"""

import argparse
import pathlib
import shutil
import signal
import sys
import time

import afar
import figures
import image
import installed
import machine
import upkeep
from gateway import UNIT, Gateway
from power import Cuts
from words import Failure, say

PROGRAMS = {
    "mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs", "depmod": "kmod", "cpio": "cpio",
    "mosquitto": "mosquitto", "dpkg-deb": "dpkg", "nsenter": "util-linux",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--package", action="append", required=True, metavar="ARCHITECTURE=FILE")
    parser.add_argument("--release", default="bookworm")
    parser.add_argument("--rounds", type=int, help="power cuts; 3 on amd64, else 1")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    folder = options.folder.resolve()
    packages = dict(word.split("=", 1) for word in options.package)

    # So that no machine goes on alone.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    missing = [package for program, package in PROGRAMS.items() if not shutil.which(program)]
    missing += [machine.QEMU[name][0] for name in packages
                if not shutil.which(machine.QEMU[name][0])]
    if missing:
        print(f"not to be done here: install {' '.join(missing)}", file=sys.stderr)
        return 1

    say(f"seed {options.seed}")
    passed, failed, measured = 0, 0, {}
    for architecture, package in packages.items():
        rounds = options.rounds or (3 if architecture == "amd64" else 1)
        trial = Trial(architecture, pathlib.Path(package).resolve(), folder, options.release)
        passed_here, fault = trial.run(rounds, options.seed)
        passed, failed = passed + passed_here, failed + bool(fault)
        measured[f"{options.release} {architecture}"] = trial.figures
    text = figures.table(measured)
    (folder / "figures.txt").write_text(text)
    print(f"\n{text}\n{passed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


class Trial:
    """All proofs on one architecture. One that fails ends them, as the others build on it."""

    def __init__(self, architecture, package, folder, release):
        self.architecture, self.package = architecture, package
        self.folder, self.release = folder, release
        self.figures = {}
        self.passed = 0

    def run(self, rounds, seed):
        """How many held, and whether one did not."""
        name = f"{self.release}-{self.architecture}"
        box = cuts = None
        try:
            files = image.image(self.folder, self.architecture, self.release)
            accelerate = machine.accelerator(files, self.architecture)
            box = machine.Machine(files, self.architecture, self.folder / f"{name}-run", accelerate)
            gate = Gateway(box, self.package)
            gate.figures = self.figures
            self.figures["package"] = f"{self.package.stat().st_size} B"
            self.figures["machine"] = accelerate[1].split(",")[0]
            say(f"{name}: switching on")
            box.start()
            cuts = Cuts(gate, rounds, seed)
            for title, proof in [*installed.PROOFS, *figures.PROOFS, *upkeep.PROOFS,
                                 *afar.PROOFS, *cuts.proofs(), *upkeep.END]:
                self.prove(title, proof, gate)
            box.stop()
            return self.passed, False
        except Failure as failure:
            print(f"FAILED on {name}: {failure}", file=sys.stderr)
            self.tell(box)
            return self.passed, True
        finally:
            if cuts:
                cuts.close()
            if box:
                box.end()

    def prove(self, title, proof, gate):
        begin = time.monotonic()
        try:
            proof(gate)
        except Failure as failure:
            raise Failure(f"{title}: {failure}") from None
        self.passed += 1
        say(f"ok  {self.architecture}: {title} ({time.monotonic() - begin:.1f} s)")

    @staticmethod
    def tell(box):
        """What the machine can still say about a failure."""
        if not box or not box.qemu or box.qemu.poll() is not None:
            return
        try:
            for command in (f"systemctl status --no-pager -l {UNIT}",
                            "journalctl -b --no-pager -n 80", "tail -n 5 /root/outputs"):
                print(f"--- {command}\n{box.ask(command, 60)[1]}", file=sys.stderr)
        except (Failure, OSError) as failure:
            print(f"the machine says no more: {failure}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
