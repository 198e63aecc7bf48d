"""How one thread wakes another."""

from threading import Lock


class Wake:
    """An event for one waiting thread, which resets it by waking.

    Not threading.Event: its set() holds a lock for a moment, and a signal handler that interrupts the main thread in that
    moment and calls set() itself would wait for ever. This one takes none.
    """

    def __init__(self):
        self._lock = Lock()
        self._lock.acquire()

    def set(self):
        try:
            self._lock.release()
        except RuntimeError:
            pass  # Set already.

    def wait(self, timeout=-1):
        """True where it was set, within `timeout` seconds."""
        return self._lock.acquire(timeout=timeout)
