"""Sends models and artifacts, in two threads of their own: one notes on disk what was logged, one sends it.

Bytes are read, hashed and sent in slices, during which the training has the interpreter. What the collector has is not sent
again, so an upload that broke off is simply begun anew, by whoever comes next.
"""

import os
import threading
from collections import deque
from json import dumps
from time import monotonic, sleep, time

from . import _orders
from ._artifact import ArtifactError
from ._collector import JSON, Collector, Unreachable
from ._imports import importing
from ._sender import FIRST_RETRY, LAST_RETRY, PERMANENT, REFUSED_ENTRY, NotNow, Refused
from ._spool import left_behind, release_lock, take_lock, unlink
from ._tell import tell, tell_defect
from ._values import quote
from ._wake import Wake
from ._walk import find_files

PACK = "application/vnd.binnacle.blobs"
BYTES = "application/octet-stream"
CHUNK = 8 << 20
SMALL = 64 << 10
# More in one request is no faster, and costs the collector memory.
PACK_BYTES = 2 << 20
PACK_FILES = 1_000
# The collector may wait for its disk, or for what others send.
ANSWER_WITHIN = 60.0
# It reads a whole file at its end: so many bytes a second at the least.
READ_RATE = 20e6
# Without progress for so long at the end of a script, the collector counts as hung.
STALLED_AFTER = 10.0
TELL_AFTER = 2.0
CHANGED_RETRY = 1.0

# Reads and hashes. Imported by the thread that does so: hashlib takes 8 ms.
_files = None


class Upload:
    """A model or an artifact on its way to the collector; what log_model and log_artifact return."""

    def __init__(self, run, roots, body):
        self.kind, self.name = body["kind"], body["name"]
        self.began = time()
        self.version = None
        self.problem = None
        self.is_done = False
        self.path = "/api/v1/runs/%s/artifacts" % run
        self.roots = roots
        self.body = dumps(body, separators=(",", ":"))
        self.files = None
        self.order = None
        self.creation = None
        # Of an earlier process: only what it meant is sent, and our own comes first.
        self.is_left_behind = False
        self.has_changed = False
        # The collector was asked in vain.
        self.is_postponed = False
        self.total = self.sent = 0

    def wait(self, timeout=None):
        """Waits until it is with the collector, and returns its version, such as "v3".

        ArtifactError where it cannot be logged, TimeoutError where that takes longer than `timeout` seconds.
        """
        until = None if timeout is None else monotonic() + timeout
        while not self.is_done:
            if until is not None and monotonic() >= until:
                raise TimeoutError("%s is not with the collector after %g seconds" % (self.label, timeout))
            sleep(0.005)
        if self.problem is not None:
            raise ArtifactError(self.problem)
        return self.version

    def settle(self, seconds):
        """Waits until it is sent, or is on disk while the collector takes nothing; ArtifactError where it cannot be logged."""
        until = monotonic() + seconds
        while not self.is_done and monotonic() < until and not self.is_postponed:
            sleep(0.005)
        if self.is_done:
            self.wait()

    @property
    def label(self):
        return "%s %r" % (self.kind, self.name)

    def __repr__(self):
        state = self.problem or self.version or "on its way"
        return "<binnacle %s: %s>" % (self.label, state)


class _Interrupted(Exception):
    """Something else comes first now, or the run ends."""


class _Pieces(list):
    """A body that is sent piece by piece, with a look around before each."""

    def __init__(self, pieces, check):
        super().__init__(pieces)
        self._check = check

    def __iter__(self):
        for piece in super().__iter__():
            self._check()
            yield piece


class Uploads:
    def __init__(self, folder, run, client, creation):
        self._folder = folder
        self._prefix = "%s-%s" % (run, client)
        self._creation = creation  # JSON text of POST /runs
        self._count = 0
        self._queue = deque()  # logged, not noted yet
        self._noted = deque()
        self._left = deque()  # orders of earlier processes
        self._ours = set()  # not done yet
        self._collector = Collector()
        self._retry_after = FIRST_RETRY
        self._disk_error = None
        self._has_told = False
        self._refused_entry = False
        self._is_too_late = False
        self._progress_at = monotonic()
        self._patience = STALLED_AFTER
        self._new, self._work, self._nudge = Wake(), Wake(), Wake()
        self.asked_in_vain = False
        self.last_problem = None
        self.is_closed = False

    # ---- for the script's threads ----

    def put(self, upload):
        upload.creation = self._creation
        self._ours.add(upload)
        self._queue.append(upload)
        if self._is_too_late:
            self._note_all()
        self._new.set()

    def adopt(self):
        """Also sends what earlier processes left in the folder."""
        paths = left_behind(self._folder, _orders.SUFFIX)
        self._left.extend(paths)
        self._new.set()
        self._work.set()

    def begin(self):
        try:
            for name, loop in (("orders", self._note_loop), ("uploads", self._send_loop)):
                threading.Thread(target=loop, name="binnacle-" + name, daemon=True).start()
        except RuntimeError:
            # From Python 3.12 on no thread is started once the interpreter ends: what is noted is sent later.
            self._is_too_late = True

    def wait(self, seconds):
        """Waits until all is sent, or waiting is in vain. Takes no lock: it may run in a signal handler."""
        if not self._ours or self._is_too_late:
            return
        self.asked_in_vain = False
        self._progress_at = began = monotonic()
        self._nudge.set()
        has_told = False
        while self._ours and not (self.asked_in_vain and not self._queue):
            now = monotonic()
            if now - began >= seconds or now - self._progress_at >= self._patience:
                break
            if not has_told and now - began >= TELL_AFTER:
                has_told = True
                sent, total = self._progress()
                tell(
                    "sending files: %s of %s so far. At most %d seconds; Ctrl-C leaves the rest to `binnacle sync`."
                    % (_bytes(sent), _bytes(total), seconds)
                )
            sleep(0.002)

    @property
    def is_safe(self):
        """What was logged would outlive us."""
        return not self._queue

    def close(self):
        """Gives up what is not done: its orders stay for whoever comes next. Returns what that is."""
        self.is_closed = True
        for wake in (self._new, self._work, self._nudge):
            wake.set()
        left = sorted(list(self._ours), key=lambda upload: upload.began)
        for upload in left:
            if upload.order is not None:
                release_lock(upload.order)
        self._disown(left, "the run has ended")
        return left

    def leave_parent(self):
        """In a forked child: what is on its way is the parent's business, and its socket must not stay open here."""
        self.is_closed = True
        held = self._collector.open_socket
        if held is not None and held.fileno() >= 0:
            os.close(held.detach())
        self._disown(list(self._ours), "that is the parent process's business")

    @staticmethod
    def _disown(uploads, why):
        for upload in uploads:
            if upload.is_done:
                continue
            upload.problem = "%s is not sent by this process: %s" % (upload.label, why)
            upload.is_done = True

    def _progress(self):
        ours = list(self._ours)
        return sum(upload.sent for upload in ours), sum(upload.total for upload in ours)

    # ---- the thread that notes ----

    def _note_loop(self):
        while not self.is_closed:
            self._new.wait(5.0)
            self._note_all()

    def _note_all(self):
        while self._queue:
            upload = self._queue[0]
            try:
                self._note(upload)
            except (OSError, ValueError) as error:
                self._give_up(upload, _text_of(error))
            except Exception as error:  # A defect of ours must not silence the rest of the run.
                tell_defect("orders", error)
                self._give_up(upload, "a defect of binnacle: %s" % error)
            else:
                self._noted.append(upload)
                if self.is_closed and upload.order is not None:
                    release_lock(upload.order)
            # Not before: at every moment it is in one of them.
            self._queue.popleft()
            self._work.set()

    def _note(self, upload):
        upload.files = find_files(upload.roots, self._touch)
        upload.total = sum(file.size for file in upload.files)
        self._count += 1
        path = os.path.join(self._folder, "%s-%d%s" % (self._prefix, self._count, _orders.SUFFIX))
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            if take_lock(path):
                upload.order = path
                self._write_order(upload)
        except OSError as error:
            if upload.order is not None:
                release_lock(path)
                upload.order = None
            self._disk_error = error

    def _write_order(self, upload):
        head = _orders.head_of(upload.path, upload.body, upload.creation)
        _orders.write_order(upload.order, head, upload.files, upload.began)

    # ---- the thread that sends ----

    def _send_loop(self):
        global _files
        while not self._noted and not self._left:
            if self.is_closed:
                return
            self._work.wait(5.0)
        with importing:
            from . import _files

        while not self.is_closed:
            try:
                upload = self._noted[0] if self._noted else self._next_left()
                if upload is None:
                    self._work.wait(5.0)
                    continue
                self._try(upload)
            except _Interrupted:
                pass
            except Exception as error:
                tell_defect("uploads", error)
                self._sleep(LAST_RETRY)
        self._collector.close()

    def _next_left(self):
        while self._left:
            path = self._left[0]
            if not os.path.exists(path) or not take_lock(path):
                self._left.popleft()
                continue
            try:
                head, files = _orders.read_order(path)
            except OSError:
                release_lock(path)
                self._left.popleft()
                continue
            except ValueError as error:
                self._left.popleft()
                _set_aside(path, str(error))
                release_lock(path)
                continue
            upload = Upload(head["create"]["id"], None, head["body"])
            upload.path, upload.creation = head["path"], dumps(head["create"], separators=(",", ":"))
            upload.files, upload.order, upload.is_left_behind = files, path, True
            return upload
        return None

    def _try(self, upload):
        try:
            version = self._send(upload)
        except _files.Changed as problem:
            if upload.is_left_behind or upload.has_changed:
                self._give_up(upload, "%s" % problem)
                self._drop(upload)
            else:
                upload.has_changed = True
                self._sleep(CHANGED_RETRY)  # Whoever writes to it may be done then.
                self._note_again(upload)
        except Refused as refusal:
            self._give_up(upload, "the collector refuses it: %s" % refusal, keep=refusal.status != 410)
            self._drop(upload)
        except NotNow as problem:
            self._fail(upload, problem)
        except _Interrupted:
            if upload.is_left_behind:
                release_lock(upload.order)
            raise
        except Exception as error:  # A defect of ours must not hold up what comes behind it.
            tell_defect("uploads", error)
            self._give_up(upload, "a defect of binnacle: %s" % error, keep=True)
            self._drop(upload)
        else:
            upload.version = version
            if upload.order is not None:
                unlink(upload.order)
                release_lock(upload.order)
            self._finish(upload)
            self._drop(upload)

    def _drop(self, upload):
        waiting = self._left if upload.is_left_behind else self._noted
        waiting.popleft()

    def _finish(self, upload):
        self.asked_in_vain = False
        upload.is_done = True
        self._ours.discard(upload)

    def _note_again(self, upload):
        """A file was replaced, or another has come: what there is now is what is meant."""
        if self.is_closed:
            raise _Interrupted
        try:
            upload.files = find_files(upload.roots, self._touch)
            upload.total, upload.sent = sum(file.size for file in upload.files), 0
            if upload.order is not None:
                self._write_order(upload)
        except ValueError as error:
            self._give_up(upload, str(error))
            self._drop(upload)
        except OSError as error:
            self._give_up(upload, _text_of(error))
            self._drop(upload)

    def _give_up(self, upload, problem, keep=False):
        """It will never be logged."""
        upload.problem = "%s is not logged: %s" % (upload.label, problem)
        tell(upload.problem)
        if upload.order is not None:
            if keep or upload.is_left_behind:
                _set_aside(upload.order)
            else:
                unlink(upload.order)
            release_lock(upload.order)
        self._finish(upload)

    def _fail(self, upload, problem):
        if self.is_closed:
            raise _Interrupted
        self.last_problem = str(problem)
        if upload.is_left_behind:
            release_lock(upload.order)
        elif upload.order is not None and any(file.sha256 for file in upload.files):
            try:
                self._write_order(upload)  # Now with what is known of the files.
            except OSError:
                pass
        if problem.status is not None and not self._has_told and not upload.is_left_behind:
            self._has_told = True
            tell("%s is not sent yet: %s" % (upload.label, problem))
        # Who is merely busy is worth waiting for.
        if problem.status != 503:
            self.asked_in_vain = upload.is_postponed = True
        wait = max(self._retry_after, problem.retry_after or 0)
        self._retry_after = min(self._retry_after * 2, LAST_RETRY)
        # Not `random`: the state of the script's generator is the script's.
        self._sleep(wait * (0.5 + os.urandom(1)[0] / 512))

    def _sleep(self, seconds):
        self._nudge.wait(max(seconds, 0.01))

    # ---- one upload ----

    def _send(self, upload):
        upload.sent = 0
        self._send_small(upload, [file for file in upload.files if file.size <= SMALL])
        for file in upload.files:
            if file.size > SMALL:
                self._send_large(upload, file)
            if not file.is_there:
                raise _files.Changed("%r changed while it was read" % file.source)
        try:
            return self._log(upload)
        except Refused as refusal:
            if refusal.status == 404:
                # Another collector answers there now, or it has not heard of the run yet.
                self._ask("POST", "/api/v1/runs", upload.creation)
                return self._log(upload)
            if refusal.status != 409:
                raise
            # Bytes that were there have gone meanwhile.
            for file in upload.files:
                file.is_there = False
            raise NotNow(str(refusal), status=409) from None

    def _log(self, upload):
        pieces, files = [upload.body[:-1].encode("ascii") + b',"files":['], upload.files
        for at in range(0, len(files), 1_000):
            some = ['{"path":%s,"size":%d,"sha256":"%s"}' % (quote(f.place), f.size, f.sha256) for f in files[at : at + 1_000]]
            pieces.append(((",%s" if at else "%s") % ",".join(some)).encode("ascii"))
        pieces.append(b"]}")
        return self._ask("POST", upload.path, pieces).get("version")

    def _send_small(self, upload, files):
        batch, size = [], 0
        for file in files:
            self._check(upload)
            if file.is_there:
                upload.sent += file.size
                continue
            data = self._read(upload, file, _files.read_small)
            if batch and (size + len(data) + 36 > PACK_BYTES or len(batch) >= PACK_FILES):
                self._send_pack(upload, batch)
                batch, size = [], 0
            batch.append((file, data))
            size += len(data) + 36
        if batch:
            self._send_pack(upload, batch)

    def _send_pack(self, upload, batch):
        digests = list({file.sha256 for file, _ in batch})
        missing = set(self._ask("POST", "/api/v1/blobs/missing", dumps({"sha256": digests}))["missing"])
        pieces, piece, size = [], [], 0
        for file, data in batch:
            if file.sha256 in missing:
                missing.discard(file.sha256)
                piece += (bytes.fromhex(file.sha256), len(data).to_bytes(4, "little"), data)
                size += len(data)
                if size > 256 << 10:
                    pieces.append(b"".join(piece))
                    piece, size = [], 0
        if piece:
            pieces.append(b"".join(piece))
        if pieces:
            self._ask("POST", "/api/v1/blobs/pack", pieces, PACK)
        for file, _ in batch:
            file.is_there = True
            upload.sent += file.size

    def _send_large(self, upload, file):
        if file.is_there:
            upload.sent += file.size
            return
        if file.chunks is None:
            self._read(upload, file, lambda file: _files.hash_large(file, lambda count: self._check(upload)))
        where = "/api/v1/blobs/%s" % file.sha256
        before = upload.sent
        opening = dumps({"size": file.size, "chunks": file.chunks})
        # The collector reads what an earlier try has brought, and the whole at the end.
        patience = ANSWER_WITHIN + file.size / READ_RATE
        try:
            answer = self._ask("POST", where + "/upload", opening, within=patience)
            upload.sent = before + file.size - len(answer["missing"]) * CHUNK
            if answer["missing"]:
                reader = _files.ChunkReader(file)
                try:
                    for index in answer["missing"]:
                        self._check(upload)
                        pieces = _Pieces(reader.read(index), lambda: self._check(upload))
                        self._ask("PUT", "%s/chunks/%d" % (where, index), pieces, BYTES)
                        upload.sent += CHUNK
                finally:
                    reader.close()
            if not answer["complete"]:
                self._ask("POST", where + "/commit", "{}", within=patience)
        except Refused as refusal:
            if refusal.status in (400, 409):
                # Its bytes are not what their digests say.
                file.chunks = file.sha256 = None
                raise _files.Changed("%r changed while it was sent (%s)" % (file.source, refusal)) from None
            if refusal.status == 404:
                raise NotNow(str(refusal), status=404) from None  # The collector was started anew.
            raise
        file.is_there = True
        upload.sent = before + file.size

    def _read(self, upload, file, read):
        """Reads a file; of an earlier process only one that is still what that process meant."""
        meant = (file.sha256, file.size, file.mtime)
        data = read(file)
        if upload.is_left_behind:
            is_it = file.sha256 == meant[0] if meant[0] is not None else (file.size, file.mtime) == meant[1:]
            if not is_it:
                raise _files.Changed("%r has changed since it was logged" % file.source)
        return data

    def _touch(self):
        self._progress_at = monotonic()

    def _check(self, upload):
        self._touch()
        if self.is_closed or (upload.is_left_behind and self._noted):
            raise _Interrupted

    def _ask(self, method, path, body, kind=JSON, within=ANSWER_WITHIN):
        """The answer's body where it is 2xx; raises NotNow or Refused."""
        self._patience = max(STALLED_AFTER, within - ANSWER_WITHIN)
        try:
            answer = self._collector.request(method, path, body, kind, within)
        except Unreachable as problem:
            raise NotNow(str(problem)) from problem
        except _Interrupted:
            self._collector.close()
            raise
        finally:
            self._progress_at, self._patience = monotonic(), STALLED_AFTER
        if self.is_closed:
            raise _Interrupted
        if answer.is_ok:
            self._retry_after = FIRST_RETRY
            return answer.body
        if (answer.status in PERMANENT or answer.status == 409) and answer.is_collectors:
            raise Refused(answer)
        if answer.status in REFUSED_ENTRY and not self._refused_entry:
            self._refused_entry = True
        what = "the collector" if answer.is_collectors else "what is no collector"
        problem = "%s at %s answers %d: %s" % (what, self._collector.url, answer.status, answer.problem)
        raise NotNow(problem, answer.retry_after, answer.status)


def _set_aside(path, problem=None):
    """For a person to look at: nobody will send it."""
    if problem is not None:
        tell("%s: it is kept as %s.refused" % (problem, path))
    try:
        os.replace(path, path + ".refused")
    except OSError:
        pass


def _text_of(error):
    if isinstance(error, FileNotFoundError):
        return "there is no %r any more" % error.filename
    if isinstance(error, OSError) and error.filename is not None:
        return "%r: %s" % (error.filename, error.strerror)
    return str(error)


def _bytes(count):
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            break
        count /= 1000
    else:
        unit = "GB"
    return "%d %s" % (count, unit) if unit == "bytes" or count >= 100 else "%.1f %s" % (count, unit)
