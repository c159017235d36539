"""How the test speaks: what it does, with the time since its beginning, and why it fails."""

import time

BEGIN = time.monotonic()


class Failure(Exception):
    """A sentence that says what is wrong."""


def say(text):
    """A line with the seconds since the beginning."""
    print(f"{time.monotonic() - BEGIN:6.1f} s  {text}", flush=True)


def expect(condition, text):
    """Fails with the sentence unless the condition holds."""
    if not condition:
        raise Failure(text)


def wait_for(condition, what, deadline_s):
    """Waits until `condition()` is true; looks twenty times a second."""
    deadline = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > deadline:
            raise Failure(f"{what}: not within {deadline_s} s")
        time.sleep(0.05)
