"""Finds the files of what is logged."""

import os
import stat

from ._artifact import MAX_FILES, checked_place, require_plain
from ._orders import File


def find_files(roots, check):
    """Every file below the roots, in the order of their places; ValueError or OSError for what cannot be sent, by name."""
    found = {}
    for place, source in roots:
        for file in _walk(place, source):
            check()
            other = found.setdefault(file.place, file)
            if other is not file:
                raise ValueError(
                    "%r and %r would both be %r: give one of them another name" % (other.source, file.source, file.place)
                )
            if len(found) > MAX_FILES:
                raise ValueError("there are more than %d files: put them into an archive (tar, zip) first" % MAX_FILES)
    if not found:
        raise ValueError("there are no files in %s" % ", ".join(repr(source) for _, source in roots))
    return [found[place] for place in sorted(found)]


def _walk(place, source):
    waiting = [(place, source)]
    while waiting:
        place, source = waiting.pop()
        found = os.lstat(source)
        require_plain(source, found.st_mode)
        if not stat.S_ISDIR(found.st_mode):
            yield File(place, source, found.st_size, found.st_mtime_ns)
            continue
        with os.scandir(source) as entries:
            for entry in entries:
                waiting.append((checked_place("%s/%s" % (place, entry.name) if place else entry.name, entry.path), entry.path))
