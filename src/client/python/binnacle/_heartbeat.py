"""The one open connection by which the collector knows that this process lives, and tells it to stop."""

import os
import signal
import socket
import threading
from http.client import HTTPException
from json import loads
from time import monotonic

from ._collector import open_connection, prefix_of
from ._place import find_collector
from ._tell import tell
from ._wake import Wake

# Pings come every 5 seconds.
SILENT_AFTER = 16.0
FIRST_RETRY = 0.5
LAST_RETRY = 4.0


class Heartbeat:
    def __init__(self, path, listens_to_stop, finish, hear_stop):
        self._path = path
        self._listens_to_stop = listens_to_stop
        self._finish = finish
        self._hear_stop = hear_stop
        self._is_closed = False
        self._wake = Wake()
        self.open_socket = None
        self.stop_reason = None
        # Set once the collector knows the run. (Not a thread started then: at exit, Python 3.12 starts none any more.)
        self.has_begun = False

    def loop(self):
        while not self.has_begun:
            self._wake.wait()
        wait = FIRST_RETRY
        while not self._is_closed:
            began = monotonic()
            try:
                self._hold()
            except (OSError, HTTPException, ValueError, AttributeError):
                # AttributeError: http.client's own, where the connection is closed under a read.
                pass
            if monotonic() - began > LAST_RETRY:
                wait = FIRST_RETRY
            self._wake.wait(wait)
            wait = min(wait * 2, LAST_RETRY)

    def begin(self):
        self.has_begun = True
        self._wake.set()

    def close(self):
        self._is_closed = self.has_begun = True
        self._wake.set()
        open_socket = self.open_socket
        if open_socket is not None:
            try:
                open_socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _hold(self):
        url, token = find_collector()
        connection = open_connection(url, SILENT_AFTER)
        try:
            headers = {"Accept": "text/event-stream"}
            if token:
                headers["Authorization"] = "Bearer " + token
            connection.request("GET", prefix_of(url) + self._path, headers=headers)
            self.open_socket = connection.sock
            response = connection.getresponse()
            if response.status != 200:
                return
            event = None
            while not self._is_closed:
                line = response.readline()
                if not line:
                    return
                if line.startswith(b"event:"):
                    event = line[6:].strip()
                elif line.startswith(b"data:") and event == b"stop":
                    self._stop(loads(line[5:]))
                elif not line.strip():
                    event = None
        finally:
            self.open_socket = None
            connection.close()

    def _stop(self, request):
        if self._is_closed or not self._listens_to_stop:
            return
        is_forced = bool(request.get("force"))
        self.stop_reason = request.get("reason") or "stopped"
        tell("the run was asked to stop: %s" % self.stop_reason)
        self._hear_stop()
        if is_forced:
            self._finish("KILLED", reason=self.stop_reason)
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
        interrupt(signal.SIGINT)


def interrupt(number):
    """As if the person had pressed Ctrl-C; a process that ignores that (started with `&` or nohup) gets SIGTERM."""
    if number == signal.SIGINT and signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, None):
        number = signal.SIGTERM
    if hasattr(signal, "pthread_kill"):
        # To the main thread, where a sleep or a read is to be cut short.
        signal.pthread_kill(threading.main_thread().ident, number)
    else:
        os.kill(os.getpid(), number)
