"""Requests that wait for the collector, in order: a bounded part in memory, the rest in the spool file.

Everything in the file comes before everything in memory: when memory moves to the file it moves as a whole.
"""

import threading
from collections import deque, namedtuple
from time import monotonic

from ._spool import Spool, line_of, parse
from ._wake import Wake

MEMORY_LIMIT = 8 << 20
# A full disk is asked again after so many seconds: every attempt copies all that is in memory.
DISK_RETRY = 1.0

# `seq`: number of a batch, None for other requests. `count`: records and lines in it, where known. `offset`: end of its line in the
# spool file, None for what lies in memory.
Request = namedtuple("Request", "method path body seq count offset")


class Outbox:
    def __init__(self, folder, run, client, header):
        self.spool = Spool(folder, run, client)
        self._header = line_of(*header)
        self._memory = deque()
        self._bytes = 0
        self._sent_to = 0  # offset in the file up to which it is delivered
        self._lock = threading.Lock()
        self.arrived = Wake()
        # Set by the sender: it failed, or waits longer than is safe. What comes goes to the file at once.
        self.to_disk = False
        self.disk_error = None
        self._disk_again_at = 0.0

    def put(self, method, path, body, seq=None, count=0):
        """False where neither the file nor memory has room."""
        with self._lock:
            if self.to_disk or self._unsent_on_disk() or self._bytes + len(body) > MEMORY_LIMIT:
                if self._spill(extra=line_of(path, body, method)):
                    self.arrived.set()
                    return True
                if self._bytes + len(body) > MEMORY_LIMIT:
                    return False
            self._memory.append(Request(method, path, body, seq, count, None))
            self._bytes += len(body)
        self.arrived.set()
        return True

    def spill(self):
        """Moves memory to the file; True where nothing is left in memory."""
        with self._lock:
            return not self._memory or self._spill()

    def next(self):
        """The request to send now, or None. The file first: it is older."""
        with self._lock:
            if self._unsent_on_disk():
                return self._read()
            if self._memory:
                return self._memory[0]
            return None

    def done(self, request):
        """Delivered, or refused for good."""
        with self._lock:
            if request.offset is not None:
                self._sent_to = request.offset
                if self._sent_to >= self.spool.size:
                    self._reset_disk()
            elif self._memory and self._memory[0] is request:
                # Not so where it moved to the file meanwhile: from there it goes a second time, which is harmless.
                self._memory.popleft()
                self._bytes -= len(request.body)

    @property
    def is_empty(self):
        with self._lock:
            return not self._memory and not self._unsent_on_disk()

    @property
    def is_safe(self):
        """Nothing would be lost if the process were killed now."""
        with self._lock:
            return not self._memory

    @property
    def kept(self):
        """Bytes unsent on disk. Without the lock, which a hanging disk would hold."""
        return max(0, self.spool.size - self._sent_to)

    @property
    def in_memory(self):
        """Records and lines that are in memory only."""
        return sum(request.count for request in list(self._memory))

    def clear(self):
        """The run was deleted: nobody wants it any more."""
        with self._lock:
            self._memory.clear()
            self._bytes = 0
            self._reset_disk()

    def close(self):
        if not self._lock.acquire(timeout=0.5):
            return
        try:
            if self._unsent_on_disk():
                self.spool.leave()
            else:
                self.spool.remove()
        finally:
            self._lock.release()

    def _unsent_on_disk(self):
        return self.spool.size > self._sent_to

    def _read(self):
        line, offset = self.spool.read(self._sent_to)
        method, path, body, _, seq = parse(line)
        return Request(method, path, body, seq, 0, offset)

    def _spill(self, extra=None):
        if self.disk_error is not None and monotonic() < self._disk_again_at:
            return False
        lines = [line_of(request.path, request.body, request.method) for request in self._memory]
        if extra is not None:
            lines.append(extra)
        try:
            is_new = self.spool.write(self._header, lines)
        except OSError as error:
            self.disk_error = error
            self._disk_again_at = monotonic() + DISK_RETRY
            return False
        if is_new:
            # The first line is for whoever sends the file later, perhaps to a collector that never heard of the run.
            self._sent_to = len(self._header)
        self.disk_error = None
        self._memory.clear()
        self._bytes = 0
        return True

    def _reset_disk(self):
        self.spool.remove()
        self._sent_to = 0
