"""Long work in a worker thread gives way to requests.

Python runs one thread at a time: beside one that builds a large commit, requests were answered at a third of their
rate. A worker that has worked for a moment while requests came sleeps for as long; while none come, it works on.
"""

import threading
import time

SLICE = 0.002
"""Seconds of work after which a worker looks whether requests came."""


class Pace:
    """Called by workers now and then; `requests` counts what was answered, in the loop."""

    def __init__(self) -> None:
        self.requests = 0
        self._worker = threading.local()

    def __call__(self) -> None:
        """Sleep, if it is time to."""
        now = time.perf_counter()
        since = getattr(self._worker, "since", now)
        worked = now - since
        if since != now and worked < SLICE:
            return
        if self.requests != getattr(self._worker, "seen", self.requests) and worked < 1:  # else: other work, long ago
            time.sleep(worked)
        self._worker.seen = self.requests
        self._worker.since = time.perf_counter()
