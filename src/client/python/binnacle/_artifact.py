"""What log_model and log_artifact take, checked in the call itself: a name, files and folders, and what is said about them."""

import os
import stat

MAX_FILES = 100_000
_MARKS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class ArtifactError(RuntimeError):
    """A model or an artifact was not logged, or cannot be had; the text says why."""


class Artifact:
    """Files under one name, to be logged together.

        artifact = binnacle.Artifact("report", type="general")
        artifact.add_file("summary.csv")
        artifact.add_dir("plots")
        binnacle.log_artifact(artifact)
    """

    def __init__(self, name, type="general"):
        self.name = checked_name(name)
        self.type = checked_type(type)
        self.metadata = {}
        # (place in the artifact, where it lies): the place of a folder is "" where what lies in it stands at the top.
        self.roots = []

    def add_file(self, path, name=None):
        """Adds a file under its own name, or another; name may have slashes."""
        source, found = look_at(path)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError("%r is a folder: add_dir takes it" % source)
        self.roots.append((_place(source, name), source))

    def add_dir(self, path, name=None):
        """Adds a folder with all that lies in it, under its own name, or another; with name="" what lies in it."""
        source, found = look_at(path)
        if not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError("%r is no folder: add_file takes it" % source)
        self.roots.append(("" if name == "" else _place(source, name), source))

    def __repr__(self):
        return "<binnacle %s %r: %s>" % (self.type, self.name, ", ".join(repr(place or ".") for place, _ in self.roots))


def roots_of(paths):
    """One folder alone is what lies in it; of several paths each stands under its own name."""
    if isinstance(paths, (str, bytes)) or hasattr(paths, "__fspath__"):
        paths = [paths]
    looked = [look_at(path) for path in paths]
    if not looked:
        raise ValueError("no path is given")
    if len(looked) == 1 and stat.S_ISDIR(looked[0][1].st_mode):
        return [("", looked[0][0])]
    return [(_place(source, None), source) for source, _ in looked]


def look_at(path):
    """(absolute path, what it is); raises where it is not there, or neither a file nor a folder."""
    source = os.path.abspath(os.fsdecode(path))
    found = os.lstat(source)
    require_plain(source, found.st_mode)
    return source, found


def require_plain(source, mode):
    """Refuses by name: following a link, or reading a pipe or a device, would send what nobody meant."""
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return
    if stat.S_ISLNK(mode):
        kind, hint = "a symbolic link", "name what it points to, or leave it out"
    else:
        kind = "a FIFO" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
        hint = "leave it out, or copy what it holds into a file"
    raise ValueError("%r is %s; only files and folders are taken: %s" % (source, kind, hint))


def _place(source, name):
    return checked_place(os.path.basename(source) if name is None else str(name).rstrip("/"), source)


def checked_place(place, source):
    """A file's path in its artifact, as the collector takes it."""
    problem = _problem(place, 1000)
    if problem is None and "\\" in place:
        problem = "must not contain backslashes"
    if problem is None:
        for part in place.split("/"):
            if part in ("", ".", ".."):
                problem = "must be a relative path without empty parts, '.' or '..'"
            elif len(part.encode("utf-8")) > 255:
                problem = "must have at most 255 bytes between slashes"
    if problem is not None:
        raise ValueError("%r: the name %r %s: rename it" % (source, place[:100], problem))
    return place


def checked_name(name):
    name = str(name)
    problem = _problem(name, 250)
    if problem is None and ("/" in name or "\\" in name):
        problem = "must not contain slashes"
    if problem is None and (name.strip() != name or name in (".", "..")):
        problem = "must be more than dots, with no spaces at its ends"
    if problem is not None:
        raise ValueError("the name of a model or an artifact %s, unlike %r" % (problem, name[:100]))
    return name


def checked_type(type):
    problem = _problem(str(type), 100)
    if problem is not None:
        raise ValueError("a type %s, unlike %r" % (problem, str(type)[:100]))
    return str(type)


def checked_aliases(aliases):
    found = [str(alias) for alias in ([aliases] if isinstance(aliases, str) else aliases or ())]
    for alias in found:
        if alias == "latest":
            raise ValueError("the alias 'latest' is always the newest version")
        if alias[:1] == "v" and alias[1:].isdigit() and alias[1:].isascii():
            raise ValueError("an alias must not look like a version number, as %r does" % alias)
        if not 1 <= _length(alias) <= 100 or not _is_word(alias):
            raise ValueError(
                "an alias has up to 100 letters, digits, '.', '_' and '-', and begins with a letter or digit, unlike %r" % alias[:120]
            )
    if len(found) > 100:
        raise ValueError("a version has at most 100 aliases, not %d" % len(found))
    return found


def _is_word(alias):
    from unicodedata import category

    return all(category(c)[0] in "LN" or (i > 0 and c in "._-") for i, c in enumerate(alias))


def _problem(text, limit):
    if not text:
        return "must not be empty"
    if _length(text) > limit:
        return "must have at most %d characters" % limit
    for c in text:
        if c < " " or "\x7f" <= c <= "\x9f" or c in _MARKS:
            return "must not contain control characters or marks that change the direction of text"
        if "\ud800" <= c <= "\udfff":
            return "must be UTF-8"
    return None


def _length(text):
    # The collector counts as JavaScript does: a character beyond U+FFFF is two.
    return len(text) + sum(c > "\uffff" for c in text)


def request_of(kind, name, type, aliases=None, metadata=None, description=None, origin=None):
    """What is logged, as the collector takes it, without its files."""
    from ._values import config_json

    request = {"kind": kind, "name": checked_name(name), "type": checked_type(type)}
    aliases = checked_aliases(aliases)
    if aliases:
        request["aliases"] = aliases
    if metadata:
        if not hasattr(metadata, "items"):
            raise TypeError("metadata must be a dict such as {'accuracy': 0.9}, not %s" % metadata.__class__.__name__)
        request["metadata"] = config_json(metadata)
        if any(len(key) > 1000 for key in request["metadata"]):
            raise ValueError("a key of metadata has at most 1,000 characters")
    if description is not None:
        request["description"] = str(description)
        if _length(request["description"]) > 100_000:
            raise ValueError("a description has at most 100,000 characters")
    if origin:
        request["origin"] = origin
    return request
