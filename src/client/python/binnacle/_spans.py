"""Spans: named stretches of a run's time."""

import os
from time import time

from . import _place
from ._values import quote

MAX_NAME = 250
MAX_VALUE = 1000


def span_text(kind, name, value=None, edge=None, started=None, ended=None, id=None, round=None, total=None):
    """A span, or one end of it, as the collector takes it. Times are ms since the epoch."""
    name = _cut(str(name).strip(), MAX_NAME)
    if not name:
        raise ValueError("a span must have a name")
    parts = ['"kind":"%s","name":%s' % (kind, quote(name))]
    if id is not None:
        parts.append('"id":"%s"' % id)
    for key, text, most in (("value", value, MAX_VALUE), ("edge", edge, MAX_NAME)):
        text = "" if text is None else _cut(str(text).strip(), most)
        if text:
            parts.append('"%s":%s' % (key, quote(text)))
    for key, at in (("started", started), ("ended", ended)):
        if at is not None:
            parts.append('"%s":%.3f' % (key, at))
    for key, number in (("round", round), ("total", total)):
        if number is not None:
            parts.append('"%s":%d' % (key, number))
    return "{%s}" % ",".join(parts)


def _cut(text, most):
    """The collector counts as JavaScript does: a character beyond U+FFFF is two."""
    text = text[:most]
    wide = sum(character > "\uffff" for character in text)
    return text if len(text) + wide <= most else text[: most // 2]


def own_edge():
    """The lane of this process among those of its run; None for the only one, or the first."""
    rank = _place.rank()
    return "rank %d" % rank if rank > 0 else None


class Span:
    """Something that takes time: begins when it is made."""

    def __init__(self, run, name, value=None, edge=None):
        self._run = run
        self._fields = ("event", name, value, own_edge() if edge is None else edge)
        self._id = os.urandom(12).hex()
        self._is_over = False
        self._put(started=time() * 1000.0)

    def end(self):
        """Said again it changes nothing."""
        if not self._is_over:
            self._is_over = True
            self._put(ended=time() * 1000.0)

    def _put(self, **times):
        self._run.put_span(span_text(*self._fields, id=self._id, **times))

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.end()
