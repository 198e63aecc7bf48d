"""Reads what is to be sent, and notices what changes meanwhile."""

import os
import stat
from hashlib import sha256

CHUNK = 8 << 20
SMALL = 64 << 10
# Read and hashed at a time, without the interpreter's lock.
SLICE = 1 << 20
# Not through a link that has come in the file's place, and without waiting for whoever writes to a pipe.
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class Changed(Exception):
    """A file is not what it was; the text says which."""


def read_small(file):
    """The bytes of a small file, whose digest is set."""
    fd, before = _open(file)
    try:
        if before.st_size > SMALL:
            raise Changed("%r changed while it was read" % file.source)
        data = os.read(fd, SMALL + 1)
        while data and len(data) < before.st_size:
            more = os.read(fd, SMALL + 1 - len(data))
            if not more:
                break
            data += more
        if len(data) != before.st_size or stamp_of(os.fstat(fd)) != stamp_of(before):
            raise Changed("%r changed while it was read" % file.source)
    finally:
        os.close(fd)
    _learn(file, sha256(data).hexdigest(), None, before)
    return data


def hash_large(file, check):
    """Sets the digests of the whole and of its chunks; `check` is called between slices and may raise."""
    fd, before = _open(file)
    try:
        buffer = memoryview(bytearray(min(SLICE, max(before.st_size, 1))))
        whole, chunks, left = sha256(), [], before.st_size
        is_one = before.st_size <= CHUNK
        while left > 0:
            chunk = whole if is_one else sha256()
            end = max(left - CHUNK, 0)
            while left > end:
                count = _read_into(fd, buffer[: min(len(buffer), left - end)])
                if count == 0:
                    raise Changed("%r changed while it was read" % file.source)
                slice_ = buffer[:count]
                whole.update(slice_)
                if not is_one:
                    chunk.update(slice_)
                left -= count
                check(count)
            chunks.append(chunk.hexdigest())
        if stamp_of(os.fstat(fd)) != stamp_of(before):
            raise Changed("%r changed while it was read" % file.source)
    finally:
        os.close(fd)
    _learn(file, whole.hexdigest(), chunks, before)


class ChunkReader:
    """Chunks of a file as it was hashed."""

    def __init__(self, file):
        self._file = file
        self._fd, found = _open(file)
        self._buffer = memoryview(bytearray(min(CHUNK, max(file.size, 1))))
        if stamp_of(found) != file.stamp:
            self.close()
            raise Changed("%r changed while it was sent" % file.source)

    def read(self, index):
        """The chunk, in pieces; valid until the next one is read."""
        size = min(CHUNK, self._file.size - index * CHUNK)
        os.lseek(self._fd, index * CHUNK, os.SEEK_SET)
        done = 0
        while done < size:
            count = _read_into(self._fd, self._buffer[done : min(done + SLICE, size)])
            if count == 0:
                break
            done += count
        if done < size or stamp_of(os.fstat(self._fd)) != self._file.stamp:
            raise Changed("%r changed while it was sent" % self._file.source)
        return [self._buffer[at : min(at + (SLICE >> 2), size)] for at in range(0, size, SLICE >> 2)]

    def close(self):
        os.close(self._fd)


def stamp_of(found):
    """Whoever writes to a file changes one of these."""
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _open(file):
    try:
        fd = os.open(file.source, _READ)
    except FileNotFoundError:
        raise Changed("%r is gone: it was deleted before it was sent" % file.source) from None
    except OSError as error:
        # ELOOP: a link has come in its place.
        raise Changed("%r cannot be read: %s" % (file.source, error.strerror)) from error
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        os.close(fd)
        raise Changed("%r is no file any more" % file.source)
    return fd, found


def _read_into(fd, view):
    if hasattr(os, "readv"):
        return os.readv(fd, [view])
    data = os.read(fd, len(view))
    view[: len(data)] = data
    return len(data)


def _learn(file, digest, chunks, found):
    file.sha256, file.chunks, file.stamp = digest, chunks, stamp_of(found)
    file.size, file.mtime = found.st_size, found.st_mtime_ns
