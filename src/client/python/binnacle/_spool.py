"""Requests kept on disk while the collector cannot take them: one file a client, one request a line, in order.

`binnacle sync` and every later client of the same folder read the same files. A line sent twice is harmless: batches are
numbered. `<file>.lock` holds process id, host and boot of whoever writes or sends the file.
"""

import os
from json import dumps, loads
from socket import gethostname
from time import time

from ._place import boot_id

LIMIT = 1 << 30
SUFFIX = ".ndjson"
# A process on another machine that shares the folder cannot be asked: its lock counts for so long.
FOREIGN = 24 * 3600.0

# Locks that this process holds, each with an object of its own; a forked child holds none of them.
_held = {}
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_held.clear)

_BODY = b',"body":'
_ITEMS = ',"items":['


def line_of(path, body, method="POST"):
    """`body` is JSON text. ASCII, as all our JSON is."""
    if method == "POST":
        return ('{"v":1,"path":%s,"body":%s}\n' % (dumps(path), body)).encode("ascii")
    return ('{"v":1,"method":%s,"path":%s,"body":%s}\n' % (dumps(method), dumps(path), body)).encode("ascii")


class Spool:
    """This client's own file. Nothing is on disk before the first `write`; nothing is left after `remove`."""

    def __init__(self, folder, run, client):
        self.path = os.path.join(folder, "%s-%s%s" % (run, client, SUFFIX))
        self.size = 0
        self._fd = None

    def write(self, header, lines):
        """Appends whole lines, `header` first where the file is new (True). OSError: nothing of them was kept."""
        if self._fd is not None and os.fstat(self._fd).st_nlink == 0:
            # Someone delivered and deleted it: what follows needs a file of its own.
            release_lock(self.path)
            self._close()
        if self._fd is None:
            self._open()
        is_new = self.size == 0
        if is_new:
            lines = [header] + lines
        size = self.size
        if size + sum(map(len, lines)) > LIMIT:
            raise OSError("%s has reached its limit of %d bytes" % (self.path, LIMIT))
        try:
            # One by one: joined, megabytes would be copied while the training waits for the interpreter.
            for line in lines:
                view = memoryview(line)
                while view:
                    view = view[os.write(self._fd, view) :]
                size += len(line)
        except OSError:
            # A full disk takes half a line: what follows would be glued to it.
            os.ftruncate(self._fd, self.size)
            raise
        self.size = size
        return is_new

    def read(self, offset):
        """(line, offset after it) at this offset; only whole lines are ever there. Works on a deleted file too."""
        os.lseek(self._fd, offset, os.SEEK_SET)
        parts = []
        while True:
            part = os.read(self._fd, 1 << 18)
            end = part.find(b"\n")
            if end >= 0 or not part:
                parts.append(part[: end + 1])
                line = b"".join(parts)
                return line, offset + len(line)
            parts.append(part)

    def remove(self):
        """All of it was delivered."""
        if self._fd is None:
            return
        unlink(self.path)
        release_lock(self.path)
        self._close()

    def leave(self):
        """The process ends; whoever comes next may send it."""
        if self._fd is None:
            return
        release_lock(self.path)
        self._close()

    def forget(self):
        """In a forked child: the file belongs to the parent."""
        self._close()

    def _open(self):
        os.makedirs(os.path.dirname(self.path) or ".", mode=0o700, exist_ok=True)
        take_lock(self.path)
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0), 0o600)
        self.size = os.fstat(self._fd).st_size

    def _close(self):
        if self._fd is not None:
            os.close(self._fd)
        self._fd = None
        self.size = 0


def take_lock(path):
    """Writes `<path>.lock`, `pid host boot`, as the TypeScript client does; False where a living process has it."""
    lock = path + ".lock"
    # Before it is there: another thread that finds it with our process id is to know whose it is.
    ours = object()
    if _held.setdefault(lock, ours) is not ours:
        return False
    try:
        is_ours = _create_lock(lock)
    except OSError:
        del _held[lock]
        raise
    if not is_ours:
        del _held[lock]
    return is_ours


def _create_lock(lock):
    for _ in range(2):
        try:
            fd = os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            if _is_held(lock) or not _set_aside(lock):
                return False
            continue
        with os.fdopen(fd, "wb") as file:
            file.write(("%d %s %s" % (os.getpid(), gethostname(), boot_id() or "")).encode("utf-8", "replace"))
        return True
    return False


def release_lock(path):
    lock = path + ".lock"
    if _held.pop(lock, None) is not None:
        unlink(lock)


def _is_held(lock):
    try:
        with open(lock, encoding="utf-8", errors="replace") as file:
            fields = file.read().strip().split(" ")
        owner = int(fields[0])
        written = os.stat(lock).st_mtime
    except (OSError, ValueError):
        return False
    host = fields[1] if len(fields) > 1 else None  # An older client wrote the process id alone.
    boot = fields[2] if len(fields) > 2 else ""
    if host is not None and host != gethostname():
        return time() - written < FOREIGN
    own_boot = boot_id()
    if boot and own_boot and boot != own_boot:
        return False
    if os.name != "posix":
        return True  # There, signal 0 is Ctrl-C.
    if owner <= 0 or owner == os.getpid():
        # Our own id in a lock we do not hold: left by the same process number of an earlier container.
        return False
    try:
        os.kill(owner, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True


def _set_aside(lock):
    """By renaming: of two that find the same stale lock only one removes it."""
    aside = "%s.%d" % (lock, os.getpid())
    try:
        os.rename(lock, aside)
    except OSError:
        return False
    unlink(aside)
    return True


def left_behind(folder, suffix=SUFFIX):
    """Files of others in the folder, oldest first."""
    try:
        paths = [os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(suffix)]
    except OSError:
        return []
    return sorted(paths, key=_age)


def _age(path):
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def parse(line):
    """(method, path, body text, client, seq) of a whole line, or None where it is damaged; seq None: not a batch.

    By position: parsing half a megabyte of JSON would hold up the training for milliseconds.
    """
    start = line.find(_BODY, 0, 1000)
    if start < 0 or not line.endswith(b"}}\n"):
        return None
    try:
        head = loads(line[:start] + b"}")
        method, path = head.get("method", "POST"), head["path"]
        body = line[start + len(_BODY) : -2].decode("utf-8")
        if head["v"] != 1 or not path.startswith("/api/v1/") or method not in ("POST", "PATCH"):
            return None
        if not path.endswith(("/records", "/logs", "/spans")):
            return method, path, body, None, None
        # Before the items only: what a script logs may look alike.
        fields = loads(body[: body.index(_ITEMS)] + "}") if _ITEMS in body[:1000] else loads(body)
        return method, path, body, fields["client"], int(fields["seq"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def unlink(path):
    try:
        os.unlink(path)
    except OSError:
        pass
