"""What the running service costs, measured in the machine."""

import re

import gateway
from words import expect

IDLE_S, MEASURED_S = 60, 30


def starts(gate):
    """From the process to READY, several times over a store with something in it."""
    spans = []
    for _ in range(5):
        gate.restart()
        begin = int(gate.show("ExecMainStartTimestampMonotonic"))
        spans.append((int(gate.show("ActiveEnterTimestampMonotonic")) - begin) / 1000)
    gate.figures["start to ready"] = f"{sorted(spans)[2]:.0f} ms"


def idles(gate):
    """Memory after a minute in which nothing came; processor and disk in the half minute after."""
    machine, pid = gate.machine, gate.pid()
    sample = f"cut -d' ' -f14,15 /proc/{pid}/stat; grep ^write_bytes /proc/{pid}/io"
    said = machine.run(
        f"sleep {IDLE_S}; {sample}; sleep {MEASURED_S}; {sample}; "
        f"grep -E '^(VmRSS|RssAnon|Threads)' /proc/{pid}/status; "
        f"grep ^Pss: /proc/{pid}/smaps_rollup; "
        f"echo current $(cat /sys/fs/cgroup/system.slice/{gateway.UNIT}/memory.current); "
        "getconf CLK_TCK", IDLE_S + MEASURED_S + 120).splitlines()
    ticks = [sum(map(int, line.split())) for line in (said[0], said[2])]
    written = [int(line.split()[1]) for line in (said[1], said[3])]
    values = {line.split()[0].rstrip(":"): int(line.split()[1]) for line in said[4:9]}
    per_second = int(said[9])
    expect(gate.pid() == pid, "it was restarted while it was idle")
    gate.figures["idle RSS"] = f"{values['VmRSS'] / 1024:.1f} MiB"
    gate.figures["of it anonymous"] = f"{values['RssAnon'] / 1024:.1f} MiB"
    gate.figures["idle Pss"] = f"{values['Pss'] / 1024:.1f} MiB"
    gate.figures["idle cgroup"] = f"{values['current'] / (1 << 20):.1f} MiB"
    gate.figures["threads"] = str(values["Threads"])
    gate.figures[f"processor in {MEASURED_S} s"] = f"{(ticks[1] - ticks[0]) / per_second:.2f} s"
    gate.figures[f"written in {MEASURED_S} s"] = f"{written[1] - written[0]} B"
    expect(written[0] == written[1], f"an idle service writes {written[1] - written[0]} bytes")


def table(columns):
    """Figures of several architectures, side by side."""
    names = list(dict.fromkeys(name for figures in columns.values() for name in figures))
    rows = [["", *columns]]
    rows += [[name, *(figures.get(name, "-") for figures in columns.values())] for name in names]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)) for row in rows]
    return "\n".join(re.sub(r" +$", "", line) for line in lines) + "\n"


PROOFS = [
    ("it is ready soon after its start", starts),
    ("idle, it takes little and writes nothing", idles),
]
