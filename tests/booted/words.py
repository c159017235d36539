"""How the test speaks: what it does, with the time since its beginning, and why it fails."""

import time

BEGIN = time.monotonic()


class Failure(Exception):
    """A sentence that says what is wrong."""


def say(text):
    """A line with the seconds since the beginning."""
    print(f"{time.monotonic() - BEGIN:6.1f} s  {text}", flush=True)
