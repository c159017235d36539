"""Power cuts in a stream, and the count of what was acknowledged."""

import random

import counting
import gateway
from words import expect, say

# Outputs before a cut: at least, at most.
FLOW = (200, 1200)
DRAIN_S = 300


class Cuts:
    """The rounds on one machine, with a broker that survives them."""

    def __init__(self, gate, rounds, seed):
        self.gate, self.rounds, self.seed = gate, rounds, seed
        self.dice = random.Random(seed)
        self.broker = counting.Broker(gate.machine.folder)
        self.http_port = counting.free_port()
        self.ledger = None

    def prepares(self, gate):
        """The configuration for the count; then the machine is switched off in order."""
        gate.machine.run(f"rm -f {gateway.DROP_IN}; systemctl daemon-reload; "
                         "systemctl stop collector; systemctl disable --now mosquitto")
        gate.configure(counting.configuration("/etc/eventflux", self.broker.port))
        gate.restart()
        gate.machine.stop()

    def start(self, cable=True):
        """Switches on. Half of the cuts lose the whole cache, half any part of it."""
        survive = "none" if self.gate.machine.boots % 2 else "some"
        self.gate.machine.start([(self.http_port, 8080)], cable, survive,
                                self.dice.getrandbits(32))
        self.gate.wait_active()

    def boots_without_network(self, gate):
        """The service is ready though there is no network yet; figures of this boot."""
        self.start(cable=False)
        machine = gate.machine
        machine.run("systemctl is-system-running --wait || systemctl --failed", 300)
        expect(machine.ask("ip route | grep -q .")[0] != 0, "there is a network: the test is wrong")
        kernel_to_ready = int(gate.show("ActiveEnterTimestampMonotonic")) / 1e6
        gate.figures["boot to ready"] = f"{kernel_to_ready:.1f} s"
        summary = machine.run("systemd-analyze").splitlines()[0]
        gate.figures["the whole boot"] = summary.split(" = ")[-1].strip().rstrip(".")

    def flows(self, gate):
        """The cable is plugged in; numbers go in and come out."""
        gate.machine.cable(True)
        gate.wait_journal("connected")
        self.ledger = counting.Ledger(self.broker.port, self.http_port)
        # Without a session at the broker, what is published before it would be nobody's.
        counting.wait_for(self.broker.has_subscription, "the gateway subscribes", 120)
        self.ledger.start()
        self.ledger.wait_outputs(FLOW[0], DRAIN_S)

    def is_cut(self, gate):
        """In mid-stream, again and again; after each boot what was acknowledged comes out."""
        machine = gate.machine
        for turn in range(1, self.rounds + 1):
            # Whether the disk really forgets: one file is synced, one is not. The kernel must not
            # write the second by itself, and does so at once to one that is written anew.
            machine.run("echo 0 >/proc/sys/vm/dirty_writeback_centisecs; rm -f /root/unsynced; "
                        f"echo {turn} >/root/synced && sync /root/synced; "
                        f"echo {turn} >/root/unsynced")
            self.ledger.wait_outputs(self.dice.randint(*FLOW), DRAIN_S)
            lost = machine.cut()
            owed = self.ledger.under_way()
            say(f"  cut {turn} after {self.ledger.outputs()} outputs, "
                f"{sum(map(len, owed.values()))} acknowledged numbers not out; {lost}")
            self.start()
            synced = machine.run("cat /root/synced")
            _, unsynced = machine.ask("cat /root/unsynced")
            expect(synced == str(turn), f"/root/synced has {synced!r}: the disk has lost a flush")
            expect(unsynced != str(turn), "/root/unsynced is there: the cut was none")
            self.ledger.wait_out(owed, DRAIN_S)

    def counts(self, _):
        """Nothing acknowledged is missing, nothing invented, nothing counted twice."""
        self.ledger.stop(DRAIN_S)
        say(f"  {self.ledger.verdict()}")

    def close(self):
        if self.ledger:
            self.ledger.close()
        self.broker.stop()

    def proofs(self):
        return [
            ("it is switched off with another configuration", self.prepares),
            ("it is ready after a boot without a network", self.boots_without_network),
            ("the cable is plugged in, and events flow", self.flows),
            (f"the power is cut in mid-stream, {self.rounds} times", self.is_cut),
            ("all that was acknowledged has come out, under one id, counted once", self.counts),
        ]
