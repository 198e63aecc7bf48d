"""Uploads noted on disk, so that another process can do them: one file each in the spool folder, `<run>-<client>-<n>.upload`.

The first line says what is logged and as whose, each further one names a file of it. `binnacle sync` and `binnacle launch`
read them too (src/client/typescript/upload-order.ts). There as a whole or not at all: it is written aside and renamed.
"""

import os
from json import dumps, loads

from ._spool import unlink

SUFFIX = ".upload"
_LINES = 1_000


class File:
    """place: its path in the artifact. stamp: what it was when it was last read."""

    __slots__ = ("place", "source", "size", "mtime", "sha256", "chunks", "stamp", "is_there")

    def __init__(self, place, source, size, mtime, sha256=None):
        self.place, self.source, self.size, self.mtime = place, source, size, mtime
        self.sha256 = sha256
        self.chunks = self.stamp = None
        # The collector has its bytes.
        self.is_there = False


def write_order(path, head, files, began):
    """head: JSON text of the first line. began: its time, by which orders are sent. OSError: nothing was kept."""
    os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
    aside = path + ".tmp"
    try:
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(head.encode("ascii") + b"\n")
            for at in range(0, len(files), _LINES):
                file.write("".join([_line_of(each) for each in files[at : at + _LINES]]).encode("ascii"))
        os.utime(aside, (began, began))
        os.replace(aside, path)
    except OSError:
        unlink(aside)
        raise


def head_of(path, body, creation):
    """body: what is logged, without its files; creation: how the run is created where the collector does not know it."""
    return '{"v":1,"path":%s,"body":%s,"create":%s}' % (dumps(path), body, creation)


def read_order(path):
    """(head, files); ValueError where it is damaged, OSError where it is gone."""
    with open(path, "rb") as file:
        try:
            head = loads(file.readline())
            if head["v"] != 1 or not head["path"].startswith("/api/v1/runs/"):
                raise ValueError("not an order")
            head["create"]["id"], head["body"]["name"], head["body"]["kind"]
            files = []
            for line in file:
                each = loads(line)
                source, mtime = each["source"], int(each["mtime"])
                files.append(File(each["path"], source, each["size"], mtime, each.get("sha256")))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError("%s is damaged (%s)" % (path, error)) from None
    if not files:
        raise ValueError("%s names no files" % path)
    return head, files


def _line_of(file):
    # Nanoseconds as text: as a number they are beyond what JavaScript can hold.
    line = '{"path":%s,"source":%s,"size":%d,"mtime":"%d"' % (dumps(file.place), dumps(file.source), file.size, file.mtime)
    return line + (',"sha256":"%s"}\n' % file.sha256 if file.sha256 else "}\n")
