"""The thread between log() and the outbox: gives records their steps and joins them into numbered batches.

It shares the interpreter with the training loop, which waits while it works: so it works in slices of a millisecond and
sleeps in between.
"""

import threading
from time import monotonic, perf_counter, sleep

SLICE = 0.001
CHECK_EVERY = 64
PAUSE = 0.0005
# What SIGKILL can take is what waits here, and what is on its way to the collector.
TICK = 0.05
IDLE_TICK = 0.2
IDLE_AFTER = 2.0
BATCH_RECORDS = 5_000
BATCH_BYTES = 512 * 1024
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


class Pump:
    def __init__(self, queue, steps, outbox, path, client, rank):
        self._queue = queue
        self._steps = steps
        self._outbox = outbox
        self._path = path
        self._head = '{"client":"%s","rank":%d,"seq":' % (client, rank)
        self._items = {"records": [], "logs": []}
        self._size = 0
        self._seq = 0
        self._unplaced = None
        self._waits_for_step_until = None
        self._busy_at = monotonic()
        self.wake = threading.Event()
        # Set at every tick after which memory holds nothing.
        self.was_saved = threading.Event()
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

    def loop(self):
        while not self.is_closed:
            is_idle = monotonic() - self._busy_at > IDLE_AFTER
            self.wake.wait(IDLE_TICK if is_idle else TICK)
            self.wake.clear()
            self.tick()

    def tick(self):
        since = self.in_flight_since
        if since is not None and monotonic() - since > SAFE_WITHIN:
            self._outbox.to_disk = True
        if self._outbox.to_disk:
            self._outbox.spill()
        if (self._queue or self._unplaced) and self._may_count():
            self._busy_at = monotonic()
            self._drain()
        if not self._queue and not self._unplaced and self._outbox.is_safe:
            self.was_saved.set()

    def _may_count(self):
        until = self._waits_for_step_until
        if until is None:
            return True
        if monotonic() < until and len(self._queue) < 10_000:
            return False
        self._waits_for_step_until = None
        return True

    def _drain(self):
        queue = self._queue
        if not self._place():
            return
        until = perf_counter() + SLICE
        done = 0
        while queue:
            self._take(queue.popleft())
            done += 1
            if done % CHECK_EVERY == 0:
                if self._size >= BATCH_BYTES or done >= BATCH_RECORDS:
                    done = 0
                    if not self._flush():
                        return
                if perf_counter() >= until:
                    sleep(PAUSE)
                    until = perf_counter() + SLICE
        self._flush()

    def _take(self, entry):
        if type(entry) is tuple:
            record = self._steps.take(entry)
            if record is not None:
                self._items["records"].append(record)
                self._size += len(record)
        elif type(entry) is Line:
            self._items["logs"].append(entry.text)
            self._size += len(entry.text)
        elif type(entry) is Request:
            if entry.is_finish:
                self.commit_rest()
            self._flush(then=entry)

    def commit_rest(self):
        record = self._steps.flush()
        if record is not None:
            self._items["records"].append(record)

    def _flush(self, then=None):
        """Makes batches of what is gathered; False where there is no room for them."""
        out = self._unplaced or []
        for kind, items in self._items.items():
            if items:
                self._seq += 1
                body = "%s%d,\"items\":[%s]}" % (self._head, self._seq, ",".join(items))
                out.append(("POST", "%s/%s" % (self._path, kind), body, self._seq, len(items), False))
                self._items[kind] = []
        self._size = 0
        if then is not None:
            out.append((then.method, then.path, then.body, None, 0, then.is_finish))
        self._unplaced = out
        return self._place()

    def _place(self):
        """Hands over in order; what finds no room is tried again at the next tick, and the queue fills up behind it."""
        out = self._unplaced or []
        while out:
            method, path, body, seq, count, is_finish = out[0]
            if not self._outbox.put(method, path, body, seq, count):
                self._unplaced = out
                return False
            if is_finish:
                self.finish_is_out = True
            out.pop(0)
        self._unplaced = None
        return True
