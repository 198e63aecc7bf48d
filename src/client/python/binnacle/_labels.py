"""What the collector takes as ids and labels, checked where they are given."""

import os
from re import compile as pattern

_RUN_ID = pattern(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")


def label(text, what):
    text = str(text)
    if not text or len(text) > 250:
        raise ValueError("a %s must have 1 to 250 characters" % what)
    if any(character < " " or "\x7f" <= character <= "\x9f" for character in text):
        raise ValueError("a %s must not contain control characters: %r" % (what, text))
    return text


def tags_of(tags):
    labels = [label(tag, "tag") for tag in ([tags] if isinstance(tags, str) else tags)]
    if len(labels) > 100:
        raise ValueError("a run has at most 100 tags, not %d" % len(labels))
    return labels


def notes_of(notes):
    notes = str(notes)
    if len(notes) > 100_000:
        raise ValueError("notes have at most 100,000 characters, not %d" % len(notes))
    return notes


def checked_run_id(run_id):
    run_id = str(run_id)
    if not _RUN_ID.match(run_id):
        raise ValueError(
            "a run id has up to 128 letters, digits, '.', '_' and '-', and begins with a letter or digit, unlike %r" % run_id
        )
    return run_id


def new_run_id():
    return str(10**14 + int.from_bytes(os.urandom(10), "big") % (9 * 10**14))
