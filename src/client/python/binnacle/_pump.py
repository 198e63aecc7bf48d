"""The thread between log() and the outbox: gives records their steps and joins them into numbered batches.

It shares the interpreter with the training loop, which waits while it works: so it works in slices of half a
millisecond and sleeps in between.
"""

import threading
from collections import deque
from time import monotonic, perf_counter, sleep

from ._tell import tell_defect
from ._wake import Wake

SLICE = 0.0005
CHECK_EVERY = 64
# log() helps where it is faster than this makes us.
PAUSE = 0.01
LAST_PAUSE = 0.0005
# What SIGKILL can take is what waits here, and what is on its way to the collector.
TICK = 0.05
IDLE_TICK = 0.2
IDLE_AFTER = 2.0
BATCH_RECORDS = 10_000
BATCH_BYTES = 512 * 1024
BATCH_SPANS = 1_000
# What is gathered here at most, before log() no longer helps and the queue fills up.
GATHERED_BYTES = 8 << 20
# Calls waiting, from which on log() helps.
MANY = 2_000
# A batch that waits longer for its answer is safer on disk.
SAFE_WITHIN = 1.0
# A run that is joined counts on from its last step, which the collector tells.
STEP_WITHIN = 1.0


class Request:
    """Anything but a record that must keep its place among them."""

    __slots__ = ("method", "path", "body", "is_finish")

    def __init__(self, method, path, body, is_finish=False):
        self.method, self.path, self.body, self.is_finish = method, path, body, is_finish


class Line:
    """A line of output."""

    __slots__ = ("text",)

    def __init__(self, text):
        self.text = text


class Record:
    """A record as JSON text, beside those that have steps from a counter and those that are not committed."""

    __slots__ = ("text",)

    def __init__(self, text):
        self.text = text


class Mark:
    """A span, or one end of it."""

    __slots__ = ("text",)

    def __init__(self, text):
        self.text = text


class Pump:
    def __init__(self, queue, steps, outbox, path, client, rank):
        self._queue = queue
        self._steps = steps
        self._outbox = outbox
        self._path = path
        self._head = '{"client":"%s","rank":%d,"seq":' % (client, rank)
        # Who holds this may take from the queue. log() only ever tries it.
        self._lock = threading.Lock()
        self._records = []
        self._lines = []
        self._spans = []
        self._size = 0
        self._seq = 0
        self._unplaced = deque()
        self._waits_for_step_until = None
        self._busy_at = monotonic()
        self.wake = Wake()
        # Set at every tick after which memory holds nothing.
        self.was_saved = False
        self.is_ending = False
        self.finish_is_out = False
        # When the sender gave out what it is waiting for now; None while it waits for nothing.
        self.in_flight_since = None
        self.is_closed = False

    def wait_for_step(self):
        self._waits_for_step_until = monotonic() + STEP_WITHIN

    def count_from(self, step):
        """The collector has told where a joined run stands, or (None) nobody knows."""
        if self._waits_for_step_until is not None and step is not None:
            self._steps.counter = step
        self._waits_for_step_until = None
        self.wake.set()

    def help(self):
        """Called by log() while it is faster than we are: does two calls' worth of our work, if nobody is at it."""
        if self._waits_for_step_until is not None or self._size > GATHERED_BYTES or not self._lock.acquire(False):
            return
        try:
            self._take(2)
        finally:
            self._lock.release()

    def loop(self):
        while not self.is_closed:
            is_idle = monotonic() - self._busy_at > IDLE_AFTER
            self.wake.wait(IDLE_TICK if is_idle else TICK)
            try:
                self.tick()
            except Exception as error:  # A defect of ours must not silence the rest of the run.
                tell_defect("pump", error)

    def tick(self):
        since = self.in_flight_since
        if since is not None and monotonic() - since > SAFE_WITHIN:
            self._outbox.to_disk = True
        if self._outbox.to_disk:
            self._outbox.spill()
        if self._is_anything_left() and self._may_count():
            self._busy_at = monotonic()
            self._drain()
        if not self._is_anything_left() and self._outbox.is_safe:
            self.was_saved = True

    def _is_anything_left(self):
        return bool(self._queue or self._records or self._lines or self._spans or self._unplaced)

    def _may_count(self):
        until = self._waits_for_step_until
        if until is None:
            return True
        if monotonic() < until and len(self._queue) < MANY:
            return False
        self._waits_for_step_until = None
        return True

    def _drain(self):
        """Until nothing is left, or there is no room for it."""
        while self._place() and self._is_anything_left():
            request = self._gather()
            if request is not None or not self._queue or self._size >= BATCH_BYTES:
                if not self._make_batches():
                    return
            if request is not None:
                self._unplaced.append((request.method, request.path, request.body, None, 0, request.is_finish))
            elif self._queue:
                sleep(LAST_PAUSE if self.is_ending else PAUSE)

    def _gather(self):
        """Takes from the queue for a slice of time; returns the request it came to, if any."""
        # A signal handler that ends the run may have interrupted help() for good: then the lock is never freed.
        if not self._lock.acquire(timeout=1.0) and not self.is_ending:
            return None
        try:
            until = perf_counter() + SLICE
            while self._queue and self._size < BATCH_BYTES:
                self._take(CHECK_EVERY)
                if self._queue and type(self._queue[0]) is Request:
                    request = self._queue.popleft()
                    if request.is_finish:
                        record = self._steps.flush()
                        if record is not None:
                            self._records.append(record)
                    return request
                if perf_counter() >= until:
                    break
            return None
        finally:
            if self._lock.locked():
                self._lock.release()

    def _take(self, count):
        queue, take, records = self._queue, self._steps.take, self._records
        for _ in range(count):
            if not queue:
                return
            entry = queue[0]
            if type(entry) is tuple:
                record = take(entry)
                if record is not None:
                    records.append(record)
                    self._size += len(record)
            elif type(entry) is Line:
                self._lines.append(entry.text)
                self._size += len(entry.text)
            elif type(entry) is Mark:
                self._spans.append(entry.text)
                self._size += len(entry.text)
            elif type(entry) is Record:
                records.append(entry.text)
                self._size += len(entry.text)
            elif type(entry) is Request:
                return
            queue.popleft()

    def _make_batches(self):
        """Makes batches of what is gathered; False where there is no room for them."""
        with_lock = self._lock.acquire(timeout=1.0)
        records, self._records = self._records, []
        lines, self._lines = self._lines, []
        spans, self._spans = self._spans, []
        size, self._size = self._size, 0
        if with_lock:
            self._lock.release()
        # By number rather than by size: counting the bytes of each would take longer than joining them.
        count = len(records) + len(lines) + len(spans)
        portion = max(1, min(BATCH_RECORDS, count * BATCH_BYTES // max(size, 1)))
        for kind, items in (("records", records), ("logs", lines), ("spans", spans)):
            most = min(portion, BATCH_SPANS) if kind == "spans" else portion
            for start in range(0, len(items), most):
                some = items[start : start + most]
                self._seq += 1
                body = '%s%d,"items":[%s]}' % (self._head, self._seq, ",".join(some))
                self._unplaced.append(("POST", "%s/%s" % (self._path, kind), body, self._seq, len(some), False))
        return self._place()

    def _place(self):
        """Hands over in order; what finds no room is tried again at the next tick, and the queue fills up behind it."""
        while self._unplaced:
            method, path, body, seq, count, is_finish = self._unplaced[0]
            if not self._outbox.put(method, path, body, seq, count):
                return False
            if is_finish:
                self.finish_is_out = True
            self._unplaced.popleft()
        return True

