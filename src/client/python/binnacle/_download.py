"""Fetches a version's files into a folder: each is checked against its digest, and nothing is written outside the folder."""

import os
import stat
from hashlib import sha256
from json import dumps
from time import sleep
from urllib.parse import quote

from ._artifact import ArtifactError, checked_place
from ._collector import FAILURES, Collector, Unreachable

ATTEMPTS = 6
FIRST_RETRY = 0.5
SLICE = 1 << 20
_PART = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def use(run, creation, kind, name, version, to):
    """The folder with the version's files, which the run is noted to use."""
    if kind not in ("model", "artifact"):
        raise ValueError("kind must be 'model' or 'artifact', not %r" % (kind,))
    collector = Collector()
    try:
        # It may not have heard of the run yet; to be told twice changes nothing.
        _ask(collector, "POST", "/api/v1/runs", creation)
        wanted = dumps({"kind": kind, "name": str(name), "version": str(version)})
        found = _ask(collector, "POST", "/api/v1/runs/%s/inputs" % run, wanted)
        where = "/api/v1/artifacts/%d/versions/%s" % (found["id"], quote(found["version"], safe=""))
        if to is None:
            to = os.path.join("artifacts", "%s-%s" % (found["name"], found["version"]))
        folder = os.path.abspath(os.fspath(to))
        os.makedirs(folder, exist_ok=True)
        root = os.path.realpath(folder)
        for file in _files(collector, where):
            _fetch(collector, where, _target(root, file["path"]), file)
        return folder
    finally:
        collector.close()


def _files(collector, where):
    after = ""
    while after is not None:
        page = _ask(collector, "GET", "%s/files?limit=1000%s" % (where, "&after=" + quote(after, safe="") if after else ""))
        yield from page["files"]
        after = page["next"]


def _target(root, place):
    """Where a file goes, its folders made on the way. A link among them could lead anywhere: it is not followed."""
    parts = checked_place(place, "the collector's list").split("/")
    if os.name == "nt" and ":" in place:
        raise ArtifactError("the collector names a file that may not be written: %r" % place)
    folder = root
    for part in parts[:-1]:
        folder = os.path.join(folder, part)
        try:
            os.mkdir(folder)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(folder).st_mode):
                raise ArtifactError("%r is in the way: it is no folder" % folder) from None
    return os.path.join(folder, parts[-1])


def _fetch(collector, where, target, file):
    part = "%s.%s.part" % (target, file["sha256"][:12])
    if len(os.path.basename(part).encode("utf-8")) > 255:
        part = os.path.join(os.path.dirname(target), file["sha256"] + ".part")
    while not _is_there(target, file):
        with os.fdopen(os.open(part, _PART, 0o666), "r+b", buffering=0) as out:
            _lock(out)
            if not _is_still(out, part):
                continue  # The other processes of this training fetch it too, and one of them was quicker.
            # What an earlier try has brought is not asked for again.
            digest = sha256()
            for data in iter(lambda: out.read(SLICE), b""):
                digest.update(data)
            digest = _receive(collector, "%s/file?path=%s" % (where, quote(file["path"], safe="")), file, out, digest)
            if digest.hexdigest() != file["sha256"]:
                os.unlink(part)
                raise ArtifactError("%r is damaged: its bytes are not what its digest says" % file["path"])
            os.replace(part, target)
            return


def _lock(out):
    try:
        from fcntl import LOCK_EX, flock

        flock(out.fileno(), LOCK_EX)
    except (ImportError, OSError):
        pass  # Not here, or not on this file system.


def _is_still(out, part):
    try:
        return os.path.samestat(os.fstat(out.fileno()), os.stat(part))
    except FileNotFoundError:
        return False


def _receive(collector, path, file, out, digest):
    wait = FIRST_RETRY
    for attempt in range(ATTEMPTS):
        at = out.tell()
        if at > file["size"]:
            out.seek(0)
            out.truncate()
            at, digest = 0, sha256()
        if at == file["size"]:
            return digest
        headers = {"Accept": "application/octet-stream"}
        if at > 0:
            headers.update({"Range": "bytes=%d-" % at, "If-Range": '"%s"' % file["sha256"]})
        problem = None
        try:
            response = collector.open(path, headers)
            if response.status == 200 and at > 0:
                out.seek(0)
                out.truncate()
                digest = sha256()
            if response.status not in (200, 206):
                problem = "HTTP status %d" % response.status
                collector.close()
                if response.status in (400, 401, 403, 404, 410):
                    raise ArtifactError("%r cannot be fetched: %s" % (file["path"], problem))
            else:
                for data in iter(lambda: response.read(SLICE), b""):
                    out.write(data)
                    digest.update(data)
                    wait = FIRST_RETRY
                if out.tell() == file["size"]:
                    return digest
                problem = "the connection broke off"
                collector.close()
        except Unreachable as error:
            problem = str(error)
        except FAILURES as error:
            if getattr(error, "errno", None) in _LOCAL:
                raise
            problem = str(collector.lost(error))
        if attempt + 1 < ATTEMPTS:
            sleep(wait)
            wait *= 2
    raise ArtifactError("%r cannot be fetched: %s" % (file["path"], problem))


def _local_errors():
    import errno

    return {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}


# What writing says, not the network.
_LOCAL = _local_errors()


def _is_there(target, file):
    try:
        found = os.lstat(target)
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(found.st_mode):
        raise ArtifactError("%r is in the way: it is no file" % target)
    if found.st_size != file["size"]:
        return False
    digest = sha256()
    with open(target, "rb", buffering=0) as file_:
        for data in iter(lambda: file_.read(SLICE), b""):
            digest.update(data)
    return digest.hexdigest() == file["sha256"]


def _ask(collector, method, path, body=None):
    wait = FIRST_RETRY
    for attempt in range(ATTEMPTS):
        try:
            answer = collector.request(method, path, body)
        except Unreachable as error:
            problem = str(error)
        else:
            if answer.is_ok:
                return answer.body
            problem = answer.problem
            if answer.status not in (429, 500, 502, 503, 504, 507):
                break
        if attempt + 1 < ATTEMPTS:
            sleep(wait)
            wait *= 2
    raise ArtifactError(problem)
