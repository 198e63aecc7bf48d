"""A run, as the script sees it."""

import os
import sys
import threading
import weakref
from collections import deque
from itertools import count
from json import dumps
from time import monotonic, sleep, time

from . import _place
from ._config import Config
from ._imports import importing
from ._labels import checked_run_id, label, new_run_id, notes_of, tags_of
from ._pump import MANY, Line, Mark, Pump, Record, Request
from ._steps import Steps
from ._tell import tell
from ._values import config_json, key_prefix, metrics_text, quote, step_number

# The queue between log() and the pump holds so many slots; a call takes one for every 256 characters.
SLOTS = 131_072
SLOT_TEXT = 256
# finish() and the exit hook wait so long for the collector, then so much longer for the disk.
FLUSH_WITHIN = 4.0
SPILL_WITHIN = 1.0
JOIN_WITHIN = 1.0
# Then for models and artifacts, unless the run was killed: whoever asked a script to end asked for no upload.
UPLOAD_WITHIN = 60.0

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
MAX_LINE = 1_000_000
# The run of a process, for children that multiprocessing starts afresh (spawn, forkserver).
_INHERITED = "_BINNACLE_RUN"

_runs = weakref.WeakSet()
_start_lock = threading.Lock()


class Run:
    """One training. `binnacle.init()` makes it; as a context manager it ends with its block."""

    def __init__(
        self, project=None, name=None, run_id=None, config=None, tags=None, notes=None, explicit_step_moves_counter=True
    ):
        joined = run_id if run_id is not None else _run_id_around()
        self.id = checked_run_id(joined) if joined is not None else new_run_id()
        self.name = None if name is None else label(name, "name")
        self.project = None if project is None else label(project, "project")
        self.tags = tags_of(tags or [])
        self.notes = None if notes is None else notes_of(notes)
        self.config = Config(self, config)
        self.client = None
        self._is_new = joined is None
        self._pid = os.getpid()
        self._began = time() * 1000.0
        self._steps = Steps(explicit_step_moves_counter)
        self._queue = deque()
        self._is_forked = False
        self._unsettled = None  # (steps, queue) of the parent process, where this one was forked
        self._drops = count(1)
        self._is_running = False
        self._is_finished = False
        self._finish_by = None
        self._is_known = False
        self._heartbeat = None
        self._uploads = None
        self.dropped = 0
        # How the run ends where its script has said that it has failed; (status, reason).
        self._declared = None
        # What log_llm_record(commit=False) has gathered, as JSON by name.
        self.gathered = {}
        # Called, in a thread of ours, when the collector asks to stop.
        self.on_stop = None
        _runs.add(self)

    # ---- what a training calls ----

    def log(self, metrics, step=None, customized_step_key=None, commit=True):
        """Records metrics, {"loss": 0.3}. See binnacle.log."""
        text = metrics_text(metrics)
        if step is not None:
            step = step_number(step)
        axes = ()
        if customized_step_key is not None:
            axes = _axes(customized_step_key, metrics, text)
        self.put(step, text, axes, commit)

    def put(self, step, text, axes, commit):
        """Queues a call whose metrics are JSON text already. Takes no lock: deque.append is atomic."""
        if not self._is_running:
            self.start()
        queue = self._queue
        if len(queue) >= SLOTS:
            self.dropped = next(self._drops)
            return
        queue.append((step, time() * 1000.0, text, axes, commit))
        if len(text) > SLOT_TEXT:
            queue.extend([None] * (len(text) // SLOT_TEXT))
        if len(queue) > MANY:
            self._pump.help()

    def span(self, name, value=None, edge=None):
        """Records how long something takes: `with run.span("eval"): …`. See binnacle.span."""
        from ._spans import Span

        return Span(self, name, value, edge)

    def put_span(self, text):
        """Queues a span, or one end of it, as JSON text."""
        self._put(Mark(text), len(text))

    def put_record(self, text):
        """Queues a record as JSON text, of whose step the collector takes care."""
        self._put(Record(text), len(text))

    def put_gathered(self):
        """Queues as one record what was gathered for it; the end of the run does so, too."""
        gathered, self.gathered = self.gathered, {}
        if gathered:
            self.put_record('{"time":%.3f,"metrics":{%s}}' % (time() * 1000.0, ",".join(gathered.values())))

    def _put(self, entry, length):
        if not self._is_running:
            self.start()
        if len(self._queue) >= SLOTS:
            self.dropped = next(self._drops)
            return
        self._queue.append(entry)
        if length > SLOT_TEXT:
            self._queue.extend([None] * (length // SLOT_TEXT))

    def declare_end(self, status, reason):
        """The script says how its run ends: it does so when the process ends, and worse if that ends worse."""
        if status == "FINISHED" or (self._declared is not None and self._declared[0] == "FAILED"):
            return
        self._declared = (status, reason)

    def log_line(self, text, level=None, stream="stdout"):
        """Records one or more lines of output. `binnacle launch` captures what a script prints by itself."""
        if stream not in ("stdout", "stderr"):
            raise ValueError("stream must be 'stdout' or 'stderr', not %r" % (stream,))
        if level is not None:
            level = str(level).upper()
            if level not in LEVELS:
                raise ValueError("level must be one of %s, not %r" % (", ".join(LEVELS), level))
        if not self._is_running:
            self.start()
        extra = "" if level is None else ',"level":"%s"' % level
        now = time() * 1000.0
        for line in str(text).split("\n"):
            if len(self._queue) >= SLOTS:
                self.dropped = next(self._drops)
                continue
            item = '{"time":%.3f,"stream":"%s"%s,"text":%s}' % (now, stream, extra, quote(line[:MAX_LINE]))
            self._queue.append(Line(item))
            if len(item) > SLOT_TEXT:
                self._queue.extend([None] * (len(item) // SLOT_TEXT))

    def log_model(self, name, path, aliases=None, metadata=None, description=None):
        """Logs a file or a folder as a version of a model. See binnacle.log_model."""
        from ._artifact import request_of, roots_of

        request = request_of("model", name, "model", aliases, metadata, description)
        return self.put_files(roots_of(path), request)

    def log_artifact(self, artifact, paths=None, type=None, aliases=None, metadata=None, description=None):
        """Logs files and folders as a version of an artifact. See binnacle.log_artifact."""
        from ._artifact import Artifact, request_of, roots_of

        if isinstance(artifact, Artifact):
            if paths is not None:
                raise TypeError("give an Artifact, or a name and paths, not both")
            name, roots = artifact.name, list(artifact.roots)
            type = type or artifact.type
            metadata = dict(artifact.metadata, **(metadata or {}))
        elif paths is None:
            raise TypeError("give the paths of the files and folders to log as %r" % (artifact,))
        else:
            name, roots = artifact, roots_of(paths)
        request = request_of("artifact", name, type or "general", aliases, metadata, description)
        return self.put_files(roots, request)

    def put_files(self, roots, request):
        """Queues what is logged; returns its Upload. Everything else is done by threads."""
        if not roots:
            raise ValueError("%s %r has no files: add_file and add_dir take them" % (request["kind"], request["name"]))
        if not self._is_running:
            self.start()
        from ._uploads import Upload

        upload = Upload(self.id, roots, request)
        self._uploading().put(upload)
        return upload

    def use_artifact(self, name, version="latest", kind="artifact", to=None):
        """Downloads a version, and notes that this run uses it. See binnacle.use_artifact."""
        from ._download import use

        if not self._is_running:
            self.start()
        return use(self.id, self._creation_text, kind, name, version, to)

    def set(self, name=None, project=None, tags=None, notes=None):
        """Changes what is said about the run."""
        change = {}
        if name is not None:
            change["name"] = self.name = label(name, "name")
        if project is not None:
            change["project"] = self.project = label(project, "project")
        if tags is not None:
            change["tags"] = self.tags = tags_of(tags)
        if notes is not None:
            change["notes"] = self.notes = notes_of(notes)
        if change:
            self.change(change)

    @property
    def url(self):
        """The run's page."""
        known = self._sender.url if self.client else None
        return "%s/runs/%s" % (known or _place.find_collector()[0], self.id)

    def finish(self, status=None, exit_code=None, reason=None):
        """Ends the run: sends what is left, for at most 5 seconds; what cannot be sent stays in the spool folder. For models
        and artifacts it waits at most a minute more, as long as they make progress, and not at all where the run was killed.

        status: FINISHED, FAILED or KILLED; by default FINISHED, or FAILED where exit_code is not 0.
        """
        if status is None:
            status = "FAILED" if exit_code else "FINISHED"
        status = str(status).upper()
        if status not in ("FINISHED", "FAILED", "KILLED"):
            raise ValueError("status must be FINISHED, FAILED or KILLED, not %r" % status)
        if status == "FINISHED" and self._declared is not None:
            status, reason = self._declared
        if self._is_finished:
            if self._finish_by is not None and os.getpid() == self._pid:
                self._wait()  # From a signal handler, inside the first call.
            return
        if not self._is_running:
            if not self._began_here():
                return
            self.start()
        self.put_gathered()
        # In this order: a signal handler may come in between with a finish() of its own.
        self._finish_by = monotonic() + FLUSH_WITHIN
        finish = self._finish_request(status, exit_code, reason)
        self._queue.append(finish)
        self._is_finished = True
        self._pump.is_ending = True
        self._pump.wake.set()
        self._sender.settle_from_now(finish)
        try:
            self._wait()
            if self._uploads is not None:
                self._uploads.wait(UPLOAD_WITHIN if status != "KILLED" else self._finish_by - monotonic())
                self._wait()
        except KeyboardInterrupt:
            # Ctrl-C once more: not a moment longer for the collector, but what is in memory goes to disk.
            self._finish_by = monotonic()
            self._wait()
            raise
        finally:
            self._close()
        self._report()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        from ._exit import outcome_of

        self.finish(**(outcome_of(error) if kind is not None else {}))

    def __repr__(self):
        return "<binnacle run %s%s>" % (self.id, " (%s)" % self.name if self.name else "")

    # ---- the machinery ----

    def start(self):
        """Starts the threads; a forked child does so at its first call, as a writer of its own."""
        with _start_lock:
            if self._is_running:
                return
            if self._is_finished:
                raise RuntimeError("run %s is finished; binnacle.init() begins another" % self.id)
            from . import _exit
            from ._heartbeat import Heartbeat
            from ._outbox import Outbox
            from ._sender import Sender

            # The sender's first look-up of a host would import this, while the training waits for the interpreter.
            "localhost".encode("idna")
            if self._unsettled is not None:
                self._count_on()
            self._pid = os.getpid()
            self.client = os.urandom(16).hex()
            rank = _place.rank()
            creation = self._creation_text = self._creation(rank)
            path = "/api/v1/runs/%s" % self.id
            outbox = Outbox(_place.spool_dir(), self.id, self.client, ("/api/v1/runs", creation))
            self._pump = Pump(self._queue, self._steps, outbox, path, self.client, rank)
            if not self._is_new and not self._is_forked:
                self._pump.wait_for_step()
            self._sender = Sender(outbox, self._pump, self.client, creation, self._on_answer)
            self._heartbeat = Heartbeat("%s/heartbeat?client=%s" % (path, self.client), not _place.is_launched(self.id), self.finish, self._hear_stop)
            self._outbox = outbox
            _exit.install()
            for name in ("pump", "sender", "heartbeat"):
                loop = getattr(self, "_" + name).loop
                threading.Thread(target=loop, name="binnacle-" + name, daemon=True).start()
            self._is_running = True

    def wait_until_known(self):
        """Waits a moment for what the collector says of a run that is joined: its name, its config, its next step."""
        if not self._is_new:
            _wait_for(lambda: self._is_known, JOIN_WITHIN)

    def change(self, fields):
        """PATCHes the run, in order with its records."""
        if not self._is_running:
            self.start()
        self._queue.append(Request("PATCH", "/api/v1/runs/%s" % self.id, dumps(fields, separators=(",", ":"))))

    def leave_parent(self):
        """In a forked child: everything on its way is the parent's business, and its sockets must not stay open here."""
        if not self._is_running:
            self._unsettled = self._unsettled or (self._steps, self._queue)
        else:
            self._unsettled = (self._steps, self._queue)
            self._outbox.spool.forget()
            for held in (self._heartbeat.open_socket, self._sender.open_socket):
                if held is not None and held.fileno() >= 0:
                    os.close(held.detach())
        self._queue = deque()
        self._is_forked = True
        self._is_new = False
        self._is_running = False
        self._is_finished = self._is_finished and self._finish_by is None
        self._is_known = False
        self._heartbeat = None
        if self._uploads is not None:
            self._uploads.leave_parent()
            self._uploads = None
        self.dropped = 0
        self.gathered = {}

    @property
    def is_live(self):
        return self.is_open and not self._is_finished

    @property
    def is_finished(self):
        return self._is_finished

    @property
    def is_open(self):
        """Live, or in the middle of finish()."""
        return self._is_running and self._pid == os.getpid()

    @property
    def stop_reason(self):
        """Why someone asked the run to stop; None while nobody has."""
        return self._heartbeat.stop_reason if self._heartbeat else None

    def _uploading(self):
        """What sends models and artifacts; it begins with the first of them."""
        with _start_lock:
            if self._uploads is None:
                with importing:
                    from ._uploads import Uploads

                self._uploads = Uploads(_place.spool_dir(), self.id, self.client, self._creation_text)
                self._uploads.begin()
            return self._uploads

    def _adopt_orders(self):
        """Uploads that earlier processes left in the folder; a run's own token is good for this run alone."""
        if (self._sender.token or "").startswith("bnc_run_"):
            return
        try:
            names = os.listdir(_place.spool_dir())
        except OSError:
            return
        if any(name.endswith(".upload") for name in names):
            self._uploading().adopt()

    def _hear_stop(self):
        if self.on_stop is not None:
            self.on_stop()

    def _began_here(self):
        return self._pid == os.getpid()

    def _count_on(self):
        """A forked child counts on from where its parent stood; what the parent has not committed stays the parent's."""
        steps, queue = self._unsettled
        for entry in list(queue):
            if type(entry) is tuple:
                steps.take(entry)
        self._steps = Steps(steps.explicit_moves_counter, steps.counter)
        self._unsettled = None

    def _creation(self, rank):
        writer = {"client": self.client, "role": "client", "rank": rank, "pid": os.getpid()}
        host = os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")
        if host:
            writer["device"] = host[:255]
        boot = _place.boot_id()
        if boot:
            writer["boot"] = boot
        start = _place.process_start()
        if start is not None:
            writer["start"] = start
        fields = {"id": self.id, "started": round(self._began, 3), "writer": writer, "command": _command()}
        for key in ("name", "project", "tags", "notes"):
            value = getattr(self, key)
            if value:
                fields[key] = value
        if self.config:
            fields["config"] = config_json(dict(self.config))
        return dumps(fields, separators=(",", ":"))

    def _on_answer(self, body):
        """In the sender's thread, once the collector knows the run; None: it cannot be asked now."""
        if body is None:
            self._is_known = True
            return
        step = body.get("next_step")
        self._pump.count_from(step if isinstance(step, (int, float)) else 0)
        self.name = body.get("name") or self.name
        self.project = body.get("project") or self.project
        if isinstance(body.get("config"), dict):
            self.config.learn(body["config"])
        self._is_known = True
        if not self._heartbeat.has_begun:
            self._heartbeat.begin()
            self._adopt_orders()
            if not _place.is_launched(self.id) and not self._is_forked:
                tell("run %s (%s) %s" % (self.name, self.id, self.url))

    def _finish_request(self, status, exit_code, reason):
        fields = {"client": self.client, "status": status, "finished": round(time() * 1000.0, 3)}
        if exit_code is not None:
            fields["exit_code"] = int(exit_code) & 0xFF
        if reason:
            fields["reason"] = str(reason)[:10_000]
        return Request("POST", "/api/v1/runs/%s/finish" % self.id, dumps(fields, separators=(",", ":")), is_finish=True)

    def _wait(self):
        sender, pump = self._sender, self._pump
        if not _wait_for(lambda: sender.settled, self._finish_by - monotonic()):
            self._outbox.to_disk = True
            pump.was_saved = False
            pump.wake.set()
            _wait_for(lambda: pump.was_saved, SPILL_WITHIN)
        uploads = self._uploads
        if uploads is not None:
            # What was logged in the last moments is noted on disk.
            _wait_for(lambda: uploads.is_safe, SPILL_WITHIN)

    def _close(self):
        self._finish_by = None
        self._leave_uploads()
        self._is_running = False
        self._pump.is_closed = True
        self._sender.is_closed = True
        self._heartbeat.close()
        self._pump.wake.set()
        self._sender.nudge.set()
        self._outbox.arrived.set()
        if os.environ.get(_INHERITED) == self.id:
            del os.environ[_INHERITED]

    def _leave_uploads(self):
        left = self._uploads.close() if self._uploads is not None else []
        self._uploads = None
        kept = [upload.label for upload in left if upload.order is not None]
        lost = [upload.label for upload in left if upload.order is None]
        if kept:
            tell(
                "not sent yet: %s%s. %s, as long as the files stay as they are."
                % (
                    ", ".join(kept[:5]),
                    " and %d more" % (len(kept) - 5) if len(kept) > 5 else "",
                    "`binnacle launch` sends it, or `binnacle sync`" if _place.is_launched(self.id) else "`binnacle sync` sends it",
                )
            )
        if lost:
            tell("not sent, and not noted in %s: %s" % (_place.spool_dir(), ", ".join(lost[:5])))

    def _report(self):
        sender, outbox = self._sender, self._outbox
        # Without the lock: a disk that hangs would hold us up here.
        kept = outbox.kept
        if self.dropped:
            tell(
                "%d calls were dropped, the newest first: the collector was not to be reached and %s"
                % (self.dropped, outbox.disk_error or "the disk could not keep up")
            )
        if sender.refused:
            tell("%d records or lines were refused; they are in %s.refused" % (sender.refused, outbox.spool.path))
        lost = self._outbox.in_memory + sum(type(entry) is tuple for entry in list(self._queue))
        outbox.close()
        if lost and not sender.is_deleted:
            tell("the last %d records are lost: neither the collector nor the disk took them (%s)" % (lost, outbox.disk_error))
        elif (kept or not sender.settled) and not sender.is_deleted:
            tell(
                "run %s is not delivered completely (%s). The rest is in %s; %s."
                % (
                    self.id,
                    (sender.last_problem or "the collector is slow").rstrip("."),
                    outbox.spool.path,
                    "it is sent by `binnacle launch`, or by `binnacle sync`"
                    if _place.is_launched(self.id)
                    else "`binnacle sync` sends it",
                )
            )


def _wait_for(is_so, seconds):
    """By looking every few milliseconds: this also runs inside signal handlers, where no lock may be taken."""
    until = monotonic() + seconds
    while not is_so():
        if monotonic() >= until:
            return False
        sleep(0.002)
    return True


def _axes(key, metrics, text):
    """The custom x axis, where it is among this call's metrics; elsewhere it has no effect."""
    if key in metrics or ("/" in str(key) and key_prefix(str(key)) in text):
        return (str(key),)
    return ()


def _run_id_around():
    """The run that launch, or the parent of a multiprocessing child, has begun."""
    given = os.environ.get("BINNACLE_RUN_ID", "").strip()
    if given:
        return given
    from ._exit import is_worker

    return os.environ.get(_INHERITED) or None if is_worker() else None


def _command():
    from shlex import quote as shell_quote

    words = getattr(sys, "orig_argv", None) or [sys.executable or "python"] + sys.argv
    return " ".join(shell_quote(word) for word in words)[:100_000]


def hand_down(run):
    """Lets children that multiprocessing starts join this run."""
    os.environ[_INHERITED] = run.id


def live_runs():
    return [run for run in _runs if run.is_live]


def open_runs():
    return [run for run in _runs if run.is_open]


def _after_fork():
    global _start_lock
    _start_lock = threading.Lock()
    for run in list(_runs):
        run.leave_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
