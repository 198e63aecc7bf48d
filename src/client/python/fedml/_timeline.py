"""Events, rounds and statuses: what stands in a run's timeline. A call only queues, as log() does."""

from time import time

from binnacle._spans import span_text
from binnacle._tell import tell

from ._calls import _run, edge_of, run_for

# FedML's words for how an edge or a run is, and how a run ends that says so; None: it goes on.
OUTCOME_BY_STATUS = {
    "NOT_STARTED": None,
    "QUEUED": None,
    "PROVISIONING": None,
    "UPGRADING": None,
    "INITIALIZING": None,
    "STARTING": None,
    "RUNNING": None,
    "TRAINING": None,
    "STOPPING": None,
    "IDLE": None,
    "OFFLINE": None,
    "FINISHED": "FINISHED",
    "KILLED": "KILLED",
    "FAILED": "FAILED",
    "EXCEPTION": "FAILED",
    "ERROR": "FAILED",
}
# The lane of a run's server, where it has no id.
SERVER = "server"

# By run: when its last round ended, or its timer was started, ms.
_round_ended = {}
# By run and edge: the last status.
_last_status = {}
_callback = None
_notices = None
_notifier_pid = None


def event(event_name, event_started=True, event_value=None, event_edge_id=None):
    """Something begins (event_started=True), or ends: two calls of the same name, value and edge are one span."""
    now = time() * 1000.0
    times = {"started": now} if event_started else {"ended": now}
    _run().put_span(span_text("event", event_name, event_value, edge_of(event_edge_id), **times))


def log_round_info(total_rounds, round_index):
    """A federated round is over; with round_index -1 the first one begins."""
    index, total = _count(round_index, "round_index", -1), _count(total_rounds, "total_rounds", 0)
    run, now = _run(), time() * 1000.0
    began, _round_ended[run.id] = _round_ended.get(run.id), now
    if index >= 0:
        run.put_span(span_text("round", "round", index, None, began, now, round=index, total=total))


def log_training_status(status, run_id=None, edge_id=None, is_from_model=False, enable_broadcast=False):
    """How this edge is: TRAINING, FINISHED, … FAILED and KILLED are how the run ends when the process does."""
    _log_status(status, run_id, edge_of(edge_id))


def log_training_finished_status(run_id=None, is_from_model=False, edge_id=None):
    log_training_status("FINISHED", run_id, edge_id)


def log_training_failed_status(run_id=None, edge_id=None, is_from_model=False, enable_broadcast=False):
    log_training_status("FAILED", run_id, edge_id)


def log_aggregation_status(status, run_id=None, edge_id=None):
    """How the federated server is; else as log_training_status."""
    _log_status(status, run_id, SERVER if edge_id is None else str(edge_id))


def log_aggregation_finished_status(run_id=None, edge_id=None):
    log_aggregation_status("FINISHED", run_id, edge_id)


def log_aggregation_failed_status(run_id=None, edge_id=None):
    log_aggregation_status("FAILED", run_id, edge_id)


def log_aggregation_exception_status(run_id=None, edge_id=None):
    log_aggregation_status("EXCEPTION", run_id, edge_id)


def send_exit_train_msg(run_id=None):
    """This edge gives up: as log_training_failed_status."""
    log_training_status("FAILED", run_id)


def register_run_status_callback(run_status_callback):
    """Calls run_status_callback(run_id, status), in a thread, with what this process says of itself by log_…_status, and
    with STOPPING when somebody stops the run. None: no more."""
    global _callback
    if run_status_callback is not None and not callable(run_status_callback):
        raise TypeError("run_status_callback must be callable, not %s" % run_status_callback.__class__.__name__)
    _callback = run_status_callback
    run = _run()
    run.on_stop = lambda: _notify(run.id, "STOPPING")
    _start_notifier()


def log_aggregated_model_info(round_index, model_url):
    """Notes where the aggregated model of a round lies; the model itself is logged by log_model."""
    _log_model_info("aggregated model", round_index, None, model_url)


def log_client_model_info(round_index, total_rounds, model_url):
    """Notes where an edge's model of a round lies."""
    _log_model_info("client model", round_index, total_rounds, model_url, edge_of())


def _log_model_info(name, round_index, total_rounds, model_url, edge=None):
    if model_url is None:
        return
    now = time() * 1000.0
    index = _count(round_index, "round_index", 0)
    total = None if total_rounds is None else _count(total_rounds, "total_rounds", 0)
    _run().put_span(span_text("event", name, model_url, edge, now, now, round=index, total=total))


def _log_status(status, run_id, edge):
    word = str(status).strip().upper()
    if word not in OUTCOME_BY_STATUS:
        raise ValueError("status must be one of %s, not %r" % (", ".join(OUTCOME_BY_STATUS), status))
    run, now = run_for(run_id), time() * 1000.0
    outcome = OUTCOME_BY_STATUS[word]
    if _last_status.get((run.id, edge)) != word:
        _last_status[run.id, edge] = word
        run.put_span(span_text("status", word, None, edge, now, None if outcome is None else now))
    if outcome is not None:
        run.declare_end(outcome, "The script reported %s." % word)
    _notify(run.id, word)


def _count(value, what, least):
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        raise TypeError("%s must be a number, not %r" % (what, value)) from None
    if not least <= number <= 1_000_000_000:
        raise ValueError("%s must be at least %d and at most a billion, not %d" % (what, least, number))
    return number


def _notify(run_id, status):
    if _callback is not None:
        _start_notifier()
        _notices.put((run_id, status))


def _start_notifier():
    """A thread of ours calls back: what the script's function does must hold up neither its training nor our threads."""
    global _notices, _notifier_pid
    import os

    if _notifier_pid == os.getpid():
        return
    import threading
    from queue import SimpleQueue

    _notifier_pid = os.getpid()
    _notices = SimpleQueue()
    threading.Thread(target=_call_back, args=(_notices,), name="binnacle-status", daemon=True).start()


def _call_back(notices):
    while True:
        run_id, status = notices.get()
        try:
            callback = _callback
            if callback is not None:
                callback(run_id, status)
        except Exception as error:  # The script's own; its run goes on.
            tell("the run status callback failed: %s: %s" % (type(error).__name__, error))
