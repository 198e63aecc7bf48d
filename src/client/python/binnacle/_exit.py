"""How a script ends decides how its run ends.

`binnacle launch` sees the exit code itself. Without it we learn of an exception from sys.excepthook and of an exit code
from sys.exit(); `raise SystemExit(3)` by hand goes unseen.
"""

import atexit
import os
import signal
import sys
import threading

_is_installed = False
_has_finalizer = False
_error = None
_exit_code = None
_masks = {}
_next_excepthook = None
_next_exit = None


def install():
    global _is_installed, _next_excepthook, _next_exit
    _install_finalizer()
    _install_sigterm()
    if _is_installed:
        return
    _is_installed = True
    atexit.register(_finish_all)
    _next_excepthook, sys.excepthook = sys.excepthook, _excepthook
    _next_exit, sys.exit = sys.exit, _exit


def _install_sigterm():
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminated)


def _install_finalizer():
    """A child of multiprocessing leaves by os._exit, past atexit but not past multiprocessing's own finalizers."""
    global _has_finalizer
    util = sys.modules.get("multiprocessing.util")
    if not _has_finalizer and util is not None and is_worker():
        _has_finalizer = True
        util.Finalize(None, _finish_child, exitpriority=10)


def is_worker():
    """True in a child of multiprocessing."""
    process = sys.modules.get("multiprocessing.process")
    return process is not None and process.parent_process() is not None


def outcome_of(error):
    """finish()'s arguments for the exception that ended the script."""
    if error is None:
        return {}
    if isinstance(error, SystemExit):
        return _outcome_of_code(error.code)
    if isinstance(error, KeyboardInterrupt):
        return {"status": "KILLED", "exit_code": 130, "reason": _stop_reason() or "KeyboardInterrupt"}
    text = "".join(str(error).splitlines(True)[:20])
    return {"status": "FAILED", "exit_code": 1, "reason": "%s: %s" % (type(error).__name__, text) if text else type(error).__name__}


def _outcome_of_code(code):
    if code is None or (isinstance(code, int) and code == 0):
        return {"status": "FINISHED", "exit_code": 0}
    if isinstance(code, int):
        return {"status": "FAILED", "exit_code": code & 0xFF, "reason": "sys.exit(%d)" % code}
    return {"status": "FAILED", "exit_code": 1, "reason": str(code)}


def _stop_reason():
    from ._run import live_runs

    return next((run.stop_reason for run in live_runs() if run.stop_reason), None)


def _excepthook(kind, error, trace):
    global _error
    _error = error if isinstance(error, BaseException) else kind()
    _next_excepthook(kind, error, trace)


def _exit(code=None):
    global _exit_code
    if threading.current_thread() is threading.main_thread():
        _exit_code = code
    _next_exit(code)


def _finish_all():
    from ._run import live_runs

    error = _error
    if error is None and sys.excepthook is not _excepthook and not hasattr(sys, "ps1") and "IPython" not in sys.modules:
        # Another hook took our place and did not pass the exception on.
        error = getattr(sys, "last_value", None)
    outcome = outcome_of(error) if error is not None else _outcome_of_code(_exit_code)
    for run in live_runs():
        run.finish(**outcome)


def _finish_child():
    from ._run import live_runs

    # multiprocessing runs its finalizers in a `finally`: an exception that ends the child is being handled here.
    outcome = outcome_of(sys.exc_info()[1])
    for run in live_runs():
        run.finish(**outcome)


def _terminated(number, frame):
    from ._run import open_runs

    # Those too that are being finished when the signal comes: there it waits with them.
    for run in open_runs():
        if is_worker():
            # That is how a Pool ends its workers when all is well.
            run.finish("FINISHED")
        else:
            run.finish("KILLED", exit_code=128 + number, reason=_stop_reason() or "SIGTERM")
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _before_fork():
    # Python forgets signals that reach a child before it is set up, where a handler is installed: a Pool that ends its
    # workers in that moment would wait for them for ever. Held back, the signal comes when the child is ready for it.
    if signal.getsignal(signal.SIGTERM) is _terminated:
        _masks[threading.get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _restore_mask():
    mask = _masks.pop(threading.get_ident(), None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_fork():
    global _error, _exit_code, _has_finalizer
    _error = _exit_code = None
    _has_finalizer = False
    if signal.getsignal(signal.SIGTERM) is _terminated:
        # A child that records nothing has nothing to wait for.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _restore_mask()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_restore_mask, after_in_child=_after_fork)
