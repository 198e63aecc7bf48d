"""Fetches a version's files into a folder: each is checked against its digest, and nothing is written outside the folder."""

import os
import stat
from hashlib import sha256
from json import dumps
from time import sleep
from urllib.parse import quote

from ._artifact import ArtifactError, checked_place
from ._collector import FAILURES, JSON, Collector, Unreachable

# What comes many in an answer: files up to here, at most so many of them, and of their bytes.
SMALL = 64 << 10
PACK_FILES = 2000
PACK_BYTES = 8 << 20
PACK_HEADER = 36
PACK_TYPE = "application/vnd.binnacle.blobs"
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
        pack, size = [], 0
        for file in _files(collector, where):
            target = _target(root, file["path"])
            if file["size"] > SMALL:
                _fetch(collector, where, target, file)
                continue
            more = PACK_HEADER + file["size"]
            if len(pack) == PACK_FILES or size + more > PACK_BYTES:
                _fetch_pack(collector, where, root, pack)
                pack, size = [], 0
            pack.append((target, file))
            size += more
        _fetch_pack(collector, where, root, pack)
        return folder
    finally:
        collector.close()


def _files(collector, where):
    after = ""
    while after is not None:
        page = _ask(collector, "GET", "%s/files?limit=10000%s" % (where, "&after=" + quote(after, safe="") if after else ""))
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


def _part(target, file):
    part = "%s.%s.part" % (target, file["sha256"][:12])
    if len(os.path.basename(part).encode("utf-8")) > 255:
        return os.path.join(os.path.dirname(target), file["sha256"] + ".part")
    return part


def _fetch_pack(collector, where, root, pack):
    """Small files in one answer; what has the same bytes comes once."""
    lock = _open_folder(root)
    try:
        # The other processes of this training fetch it too, and one of them was quicker.
        wanted = {}
        for target, file in pack:
            if not _is_there(target, file):
                wanted.setdefault(file["sha256"], []).append((target, file))
        _receive_pack(collector, where + "/pack", wanted)
    finally:
        if lock is not None:
            os.close(lock)


def _open_folder(root):
    """Locked until it is closed; None where there is no such thing."""
    try:
        folder = os.open(root, os.O_RDONLY)
    except OSError:
        return None
    _lock(folder)
    return folder


def _receive_pack(collector, path, wanted):
    wait = FIRST_RETRY
    attempt = 0
    while wanted:
        left = len(wanted)
        problem = "the connection broke off"
        try:
            body = dumps({"paths": [places[0][1]["path"] for places in wanted.values()]})
            response = collector.open(path, {"Accept": PACK_TYPE, "Content-Type": JSON}, body)
            if response.status != 200:
                problem = "HTTP status %d" % response.status
                collector.close()
                if response.status in (400, 401, 403, 404, 405, 410):
                    raise ArtifactError("the small files cannot be fetched: %s" % problem)
            else:
                for digest, data in _unpack(response, wanted):
                    for target, file in wanted.pop(digest):
                        _write(target, file, data)
                if wanted:
                    collector.close()
        except Unreachable as error:
            problem = str(error)
        except FAILURES as error:
            if getattr(error, "errno", None) in _LOCAL:
                raise
            problem = str(collector.lost(error))
        if len(wanted) < left:
            wait, attempt = FIRST_RETRY, 0
        elif attempt + 1 == ATTEMPTS:
            raise ArtifactError("%d small files cannot be fetched: %s" % (left, problem))
        else:
            attempt += 1
            sleep(wait)
            wait *= 2


def _unpack(response, wanted):
    """Each file that comes, found to be what its digest says."""
    while True:
        head = response.read(PACK_HEADER)
        if len(head) < PACK_HEADER:
            return
        digest = head[:32].hex()
        length = int.from_bytes(head[32:], "little")
        if digest not in wanted or length != wanted[digest][0][1]["size"]:
            raise ArtifactError("the collector sends a file that nobody asked for")
        data = response.read(length) if length else b""
        if len(data) < length:
            return
        if sha256(data).hexdigest() != digest:
            raise _damaged(wanted[digest][0][1])
        yield digest, data


def _write(target, file, data):
    part = _part(target, file)
    with os.fdopen(os.open(part, _PART | os.O_TRUNC, 0o666), "wb", buffering=0) as out:
        out.write(data)
    try:
        os.replace(part, target)
    except FileNotFoundError:
        # Where nothing can be locked, another process was quicker.
        if not _is_there(target, file):
            raise


def _damaged(file):
    return ArtifactError("%r is damaged: its bytes are not what its digest says" % file["path"])


def _fetch(collector, where, target, file):
    part = _part(target, file)
    while not _is_there(target, file):
        with os.fdopen(os.open(part, _PART, 0o666), "r+b", buffering=0) as out:
            _lock(out.fileno())
            if not _is_still(out, part):
                continue  # The other processes of this training fetch it too, and one of them was quicker.
            # What an earlier try has brought is not asked for again.
            digest = sha256()
            for data in iter(lambda: out.read(SLICE), b""):
                digest.update(data)
            digest = _receive(collector, "%s/file?path=%s" % (where, quote(file["path"], safe="")), file, out, digest)
            if digest.hexdigest() != file["sha256"]:
                os.unlink(part)
                raise _damaged(file)
            os.replace(part, target)
            return


def _lock(descriptor):
    try:
        from fcntl import LOCK_EX, flock

        flock(descriptor, LOCK_EX)
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
