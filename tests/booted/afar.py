"""Another configuration comes over MQTT, signed: one that is kept, others that must not stay."""

import json

import gateway
import installed
from words import expect, wait_for

NODE = "press-hall"
CONTROL = f"""
[control]
mode = "signed"
node = "{NODE}"
mqtt.broker = "mqtt://127.0.0.1"
"""
REFUSED, ROLLED_BACK = 8, 9
# The alerts of the document that is kept, and of one that must not stay.
KEPT, NEVER = 60, 1


def document(threshold, broker="mqtt://127.0.0.1"):
    sql = installed.SQL.replace("temp > 80", f"temp > {threshold}")
    return f'[application]\nname = "plant"\nmqtt.broker = "{broker}"\nsql = """{sql}"""\n'


def push(text, words):
    """The command that brings this document to the node, after the file is written."""
    return (f"cat >/root/document.toml <<'END'\n{text}END\n"
            f"eventflux control push /root/document.toml --broker mqtt://127.0.0.1 "
            f"--node {NODE} {words}")


def reported(gate):
    """What the node says of the document, or nothing while the broker has no word of it."""
    _, said = gate.machine.ask("mosquitto_sub -h 127.0.0.1 -C 1 -W 5 "
                               f"-t eventflux/v1/{NODE}/config/reported")
    return json.loads(said) if said.startswith("{") else {}


def alerts_as_kept(gate, device):
    """The document that was kept is in force, and no other."""
    def comes_out():
        # In this order; again, as a broker that lost its power may have lost who listens.
        for temp in (KEPT - 1, KEPT + 1):
            gate.publish(f"plant/{device}/temp", json.dumps({"device": device, "temp": temp}))
        return gate.machine.ask(f"grep -q '^alerts .*\"{device}\"' {gateway.OUTPUTS}")[0] == 0

    wait_for(comes_out, f"an alert of {device}", 60)
    rows = gate.machine.run(f"grep '^alerts .*\"{device}\"' {gateway.OUTPUTS}").splitlines()
    temps = {json.loads(row.split(" ", 1)[1])["temp"] for row in rows}
    expect(temps == {KEPT + 1}, f"alerts of {device} at {temps}, not at {KEPT + 1} alone")


def obeys_a_signature(gate):
    """The key is trusted by a file alone; what is signed is kept, what is not is refused."""
    machine = gate.machine
    machine.run("cd /root && eventflux control keygen fleet.key "
                "&& install -m 644 fleet.pub /etc/eventflux/trusted.d/")
    gate.configure({gateway.CONFIGURATION: installed.CONFIGURATION + CONTROL})
    gate.restart()
    machine.run(push(document(KEPT), "--key /root/fleet.key --confirm-s 5"), 180)
    alerts_as_kept(gate, "press-8")
    code, said = machine.ask(push(document(NEVER), ""), 180)
    expect(code == REFUSED and "E_UNSIGNED" in said, f"without a signature: {code}, {said}")
    expect(gate.show("NRestarts") == "0", "it was restarted")


def goes_back(gate):
    """A document with a wrong broker comes back by itself."""
    wrong = document(NEVER, "mqtt://127.0.0.1:1")
    code, said = gate.machine.ask(push(wrong, "--key /root/fleet.key --confirm-s 10"), 180)
    expect(code == ROLLED_BACK and "E_HEALTH" in said, f"a wrong broker: {code}, {said}")
    alerts_as_kept(gate, "press-9")


def survives_a_cut_on_probation(gate):
    """The power goes while a document is on trial: the one before runs after the boot."""
    machine = gate.machine
    words = "--key /root/fleet.key --confirm operator --confirm-s 3600"
    machine.run(f"({push(document(NEVER), words)}\n) >/root/push.log 2>&1 </dev/null &")
    wait_for(lambda: reported(gate).get("status") == "probation", "the document is on trial", 60)
    # The cut waits for something that is written and not synced.
    machine.run("echo lost >/root/unsynced")
    machine.cut()
    machine.start()
    gate.wait_active()
    wait_for(lambda: reported(gate).get("status") == "rolled_back", "it says that it is back", 60)
    said = reported(gate)
    expect(said["code"] == "E_BOOT_GUARD", f"it says {said}")
    # What was in it at the cut was not synced, and may be anything.
    machine.run(f"rm -f {gateway.OUTPUTS}")
    gate.collect("alerts")
    alerts_as_kept(gate, "press-10")


PROOFS = [
    ("a signed document is tried and kept, one without a signature refused", obeys_a_signature),
    ("a document with a wrong broker goes back by itself", goes_back),
    ("the power is cut on probation: what was good before runs", survives_a_cut_on_probation),
]
