"""What a script prints, recorded as well as printed. Nothing of it is rewritten, and no line waits for the collector."""

import os
import sys
import threading

from binnacle._place import is_launched
from binnacle._tell import tell

_began = None
_has_told = False


class Tee:
    """A stream that also records the lines written to it."""

    def __init__(self, stream, name, run):
        self._stream = stream
        self._name = name
        self._run = run
        self._rest = []
        self._is_over = False
        # Reentrant: a signal handler may print, too.
        self.lock = threading.RLock()

    def write(self, text):
        written = self._stream.write(text)
        if not self._is_over:
            with self.lock:
                lines = self._lines(text)
            self._record(lines)
        return written

    def _lines(self, text):
        """Those that end with this text."""
        self._rest.append(text)
        if "\n" not in text and "\r" not in text:
            return ()
        *lines, rest = "".join(self._rest).split("\n")
        # All of a progress bar that never ends its line would be copied with each of its states.
        self._rest = [_shown(rest) + "\r" * rest.endswith("\r")]
        return lines

    def _record(self, lines):
        try:
            for line in lines:
                # A line that a child of fork() writes is that of its own run's writer: the run knows.
                self._run.log_line(_shown(line), stream=self._name)
        except RuntimeError as error:
            # Once the run is finished the script prints on, and so it does where no thread is to be had.
            if not self._run.is_finished:
                _tell_once("what is printed is not recorded: %s" % error)

    def writelines(self, lines):
        for line in lines:
            self.write(line)

    def end(self):
        """Passes on from now on, no more: whoever holds it may still write."""
        with self.lock:
            self._is_over = True
            rest, self._rest = _shown("".join(self._rest)), []
        if rest:
            self._record((rest,))
        return self._stream

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def __iter__(self):
        return iter(self._stream)


def _tell_once(message):
    global _has_told
    if not _has_told:
        # Before it is told, which may be by one of these streams.
        _has_told = True
        tell(message)


def _shown(line):
    """Of a progress bar what it came to."""
    return line.rstrip("\r").rpartition("\r")[2]


def begin(run):
    global _began
    if _began is not None or is_launched(run.id):
        return
    out, err = Tee(sys.stdout, "stdout", run), Tee(sys.stderr, "stderr", run)
    _move_loggers({id(sys.stdout): out, id(sys.stderr): err})
    sys.stdout, sys.stderr = out, err
    _began = (out, err)


def end():
    global _began
    if _began is None:
        return
    out, err = _began
    _began = None
    _move_loggers({id(out): out._stream, id(err): err._stream})
    printed, told = out.end(), err.end()
    # Somebody else may have put a stream of theirs over ours.
    if sys.stdout is out:
        sys.stdout = printed
    if sys.stderr is err:
        sys.stderr = told


def _move_loggers(streams):
    """Handlers that write to these already: they hold the stream, not its name."""
    logging = sys.modules.get("logging")
    for handler in list(logging.root.handlers) if logging is not None else ():
        moved = streams.get(id(getattr(handler, "stream", None)))
        if moved is not None:
            handler.stream = moved


def _after_fork():
    # A thread that is not in the child may have held them.
    for tee in _began or ():
        tee.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
