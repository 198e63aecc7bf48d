"""The thread that talks to the collector: one request in flight, in order, repeated until it is answered."""

import os
from json import dumps, loads
from time import monotonic

from . import _spool
from ._collector import Collector, Unreachable
from ._tell import tell, tell_defect
from ._wake import Wake

FIRST_RETRY = 0.25
LAST_RETRY = 5.0
# Trying these again would get the same answer.
PERMANENT = (400, 404, 405, 410, 413, 415, 422)
# The request is right and we are not let in: the right token may come.
REFUSED_ENTRY = (401, 403, 421)
LONGEST_GAP = 100_000
# Of what is refused so much is kept, for a person to look at.
REFUSED_LIMIT = 64 << 20


class NotNow(Exception):
    """Try again later."""

    def __init__(self, message, retry_after=None, status=None):
        super().__init__(message)
        self.retry_after = retry_after
        self.status = status  # None: nothing answered


class Refused(Exception):
    """Never."""

    def __init__(self, answer):
        super().__init__(answer.problem)
        self.status = answer.status


class Sender:
    def __init__(self, outbox, pump, client, creation, on_created):
        self._outbox = outbox
        self._pump = pump
        self._client = client
        self._creation = creation  # JSON text of POST /runs
        self._on_created = on_created
        self._collector = Collector()
        self._is_created = False
        self._retry_after = FIRST_RETRY
        self._others = None
        self._refused_entry = False
        self._has_told = False
        # The request that ends the run, once the process ends.
        self.finish = None
        self.refused = 0
        self._laid_aside = None
        self.last_problem = None
        self.is_deleted = False
        self.is_closed = False
        # Set to try now rather than when the back-off is over.
        self.nudge = Wake()
        # Set when nothing is left to do, or what is left is safe on disk and the collector was asked in vain.
        self.settled = False
        self._asked_in_vain = False

    @property
    def url(self):
        return self._collector.url

    @property
    def token(self):
        return self._collector.token

    @property
    def open_socket(self):
        return self._collector.open_socket

    def loop(self):
        try:
            while not self.is_closed:
                try:
                    self._step()
                    self._asked_in_vain = False
                except NotNow as problem:
                    self._fail(problem)
                except Exception as error:  # A defect of ours must not silence the rest of the run.
                    tell_defect("sender", error)
                    self._fail(NotNow("%s: %s" % (type(error).__name__, error)))
        finally:
            if self._others is not None:
                self._others.close()
            self._collector.close()

    def settle_from_now(self, finish):
        """The process ends: the next failure is enough."""
        self.finish = finish
        self._asked_in_vain = False
        self._retry_after = FIRST_RETRY
        self.nudge.set()
        self._outbox.arrived.set()

    def _step(self):
        if not self._is_created:
            self._create()
        request = self._outbox.next()
        if request is None:
            self._rest()
            return
        if self.is_deleted:
            self._outbox.clear()
            return
        try:
            self._deliver(request)
        except Refused as refusal:
            self._keep_refused(request, refusal)
        self._outbox.done(request)
        self._outbox.to_disk = False

    def _create(self):
        try:
            answer = self._send("POST", "/api/v1/runs", self._creation)
        except Refused as refusal:
            if refusal.status == 410:
                self._delete(refusal)
                self._is_created = True
                return
            problem = "the collector does not take this run: %s" % refusal
            raise NotNow(problem, LAST_RETRY, refusal.status) from None
        self._is_created = True
        self._on_created(answer.body)
        self._others = self._send_others()

    def _rest(self):
        # Looked at again: what there is may have come, finish and all, after we found nothing.
        if self._pump.finish_is_out and self._outbox.is_empty:
            self.settled = True
        if self._others is not None and not self._pump.finish_is_out:
            try:
                next(self._others)
                return
            except StopIteration:
                self._others = None
        self._outbox.arrived.wait(1.0)

    def _deliver(self, request):
        send = (request.method, request.path, request.body, self._client, request.seq)
        try:
            self._send_over_gap(*send)
        except Refused as refusal:
            if refusal.status == 410:
                self._delete(refusal)
            elif refusal.status == 404:
                # Another collector answers there now, or its data is gone: tell it of the run, once.
                self._create()
                self._send_over_gap(*send)
            else:
                raise

    def _send(self, method, path, body):
        """Returns the answer where it is 2xx; raises NotNow, Refused or Gap."""
        self._pump.in_flight_since = monotonic()
        try:
            answer = self._collector.request(method, path, body)
        except Unreachable as problem:
            raise NotNow(str(problem)) from problem
        finally:
            self._pump.in_flight_since = None
        if answer.is_ok:
            self._retry_after = FIRST_RETRY
            return answer
        if answer.status == 409 and isinstance(answer.body.get("expected"), int):
            raise Gap(answer.body["expected"])
        if answer.status in PERMANENT and answer.is_collectors:
            raise Refused(answer)
        if answer.status in REFUSED_ENTRY and not self._refused_entry:
            self._refused_entry = True
            tell("the collector at %s refuses us (%d): %s" % (self.url, answer.status, answer.problem))
        what = "the collector" if answer.is_collectors else "what is no collector"
        problem = "%s at %s answers %d: %s" % (what, self.url, answer.status, answer.problem)
        raise NotNow(problem, answer.retry_after, answer.status)

    def _fail(self, problem):
        self.last_problem = str(problem)
        self._outbox.to_disk = True
        if not self._is_created:
            self._pump.count_from(None)
            self._on_created(None)
        self._asked_in_vain = True
        if not self._has_told and not self._pump.finish_is_out:
            self._has_told = True
            self._tell_kept(problem)
        wait = max(self._retry_after, problem.retry_after or 0)
        # Not `random`: the state of the script's generator is the script's.
        jitter = 0.5 + os.urandom(1)[0] / 512
        self._retry_after = min(self._retry_after * 2, LAST_RETRY)
        until = monotonic() + wait * jitter
        may_finish = problem.status is not None and problem.status not in REFUSED_ENTRY
        while not self.is_closed and monotonic() < until:
            if may_finish and self.finish is not None:
                may_finish = False
                self._finish_ahead()
            if self._pump.finish_is_out and self._asked_in_vain and self._outbox.is_safe:
                self.settled = True
            if self.nudge.wait(min(0.05 if self._pump.finish_is_out else 1.0, max(0.0, until - monotonic()))):
                return

    def _finish_ahead(self):
        """A collector that takes no data may still hear of the end: behind the data it would never come, and who ended well
        would be taken for dead. Repeated behind the data, it changes nothing."""
        try:
            answer = self._collector.request(self.finish.method, self.finish.path, self.finish.body)
        except Unreachable:
            return
        if answer.is_ok:
            self.finish = None

    def _tell_kept(self, problem):
        tell(
            "%s. The run goes on and is kept in %s; %s, or send it later with `binnacle sync`."
            % (
                self.last_problem.rstrip("."),
                os.path.dirname(self._outbox.spool.path),
                "start a collector with `binnacle start`, and it is sent"
                if problem.status is None
                else "it is sent when the collector takes it",
            )
        )

    def _delete(self, refusal):
        if not self.is_deleted:
            tell("%s Nothing more is sent." % refusal)
        self.is_deleted = True

    def _keep_refused(self, request, refusal):
        """Puts aside what the collector will never take, and fills its number."""
        batch = (request.path, request.seq)
        # A batch comes again where its number could not be filled.
        if request.seq is None or batch != self._laid_aside:
            self._laid_aside = batch
            path = self._outbox.spool.path
            if self.refused == 0:
                tell("the collector refused part of the run (it is in %s.refused): %s" % (path, refusal))
            self.refused += request.count or len(loads(request.body).get("items", (None,)))
            keep_refused(path, _spool.line_of(request.path, request.body, request.method))
        if request.seq is not None:
            self._fill(request.path, self._client, request.seq)

    def _send_others(self):
        """A generator: sends files that earlier processes left in the folder, one line a step."""
        if (self.token or "").startswith("bnc_run_"):
            return  # Good for this run alone.
        own = self._outbox.spool.path
        for path in _spool.left_behind(os.path.dirname(own)):
            if path == own or not _spool.take_lock(path):
                continue
            try:
                yield from self._send_file(path)
            finally:
                _spool.release_lock(path)

    def _send_file(self, path):
        known = _refused_before(path)
        with open(path, "rb") as file:
            while True:
                start = file.tell()
                line = file.readline()
                if not line.endswith(b"\n"):
                    # A torn last line stays out; one whose writer went on meanwhile is read again, whole.
                    if os.stat(path).st_size <= start + len(line):
                        break
                    file.seek(start)
                    continue
                request = _spool.parse(line)
                if request is None:
                    _keep_once(path, line, known)
                    continue
                method, where, body, client, seq = request
                try:
                    self._send_over_gap(method, where, body, client, seq)
                except Refused:
                    _keep_once(path, line, known)
                    if seq is not None:
                        self._fill(where, client, seq)
                yield
        os.unlink(path)

    def _send_over_gap(self, method, path, body, client, seq):
        """Batches that are missing before this one are lost for good: their numbers are passed over."""
        try:
            self._send(method, path, body)
        except Gap as gap:
            if seq is None or not gap.expected < seq < gap.expected + LONGEST_GAP:
                problem = "the collector waits for batch %d of client %s" % (gap.expected, client)
                raise NotNow(problem, status=409) from None
            for missing in range(gap.expected, seq):
                self._send("POST", path, _empty_batch(client, missing))
            self._send(method, path, body)

    def _fill(self, path, client, seq):
        """A refused batch leaves a hole in the numbers, for which everything behind it would be refused too."""
        try:
            self._send("POST", path, _empty_batch(client, seq))
        except Refused:
            pass  # The run itself is not taken.


class Gap(Exception):
    """The collector has not seen the batches from `expected` on."""

    def __init__(self, expected):
        super().__init__("batch %d is missing" % expected)
        self.expected = expected


def _empty_batch(client, seq):
    return dumps({"client": client, "seq": seq, "items": []}, separators=(",", ":"))


def _refused_before(path):
    """Hashes of what an earlier try, which broke off, has put aside. (hashlib would cost 8 ms at import.)"""
    try:
        with open(path + ".refused", "rb") as file:
            return {hash(line) for line in file}
    except OSError:
        return set()


def _keep_once(path, line, known):
    if hash(line) not in known:
        known.add(hash(line))
        keep_refused(path, line)


def keep_refused(path, line):
    try:
        os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
        fd = os.open(path + ".refused", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(fd, "ab") as file:
            if os.fstat(fd).st_size + len(line) <= REFUSED_LIMIT:
                file.write(line)
    except OSError:
        pass
