"""The documented calls, with the documented client's rules and without its side effects (no config fetch, no re-seeding
of random generators, no lock that a bad value leaves locked; what is uncommitted at the end is recorded)."""

import os

import binnacle
from binnacle._run import Run, hand_down
from binnacle._tell import tell
from binnacle._values import key_prefix, step_number, value_text

# Metrics of these names are x axes by themselves.
X_NAMES = frozenset(
    ("index", "idx", "iteration", "iter", "round", "round_index", "round_idx", "round-index", "round-idx", "epoch")
)
# Every record has its own step, time and run: metrics of these names have always been overwritten by them.
TAKEN_NAMES = frozenset(("step", "timestamp", "run_id"))

_current = None
_runs_by_id = {}
_name_by_key = {}
_has_told = set()


def init(args=None, check_env=True, should_init_logs=True, client_id_list=None):
    """Begins the run, if none has begun; returns `args` (an empty namespace where none are given)."""
    run = _run()
    if args is None:
        from argparse import Namespace

        args = Namespace(run_id=run.id, rank=0)
    else:
        run.config.update(args)
    return args


def log(metrics, step=None, customized_step_key=None, commit=True, is_endpoint_metric=False):
    """Records metrics. Keys are lower-cased, "/" becomes "-".

    metrics (dict): such as {"accuracy": 0.3, "loss": 2.0}.
    step (int=None): default the global step counter, which moves on only with a call that commits without a step.
    customized_step_key (str=None): one of the keys, to be the x axis of the others.
    commit (bool=True): with False the metrics are kept until a call commits; what is left at the end is recorded then.
    """
    log_metric(metrics, step, customized_step_key, commit)


def log_metric(metrics, step=None, customized_step_key=None, commit=True, run_id=None, edge_id=None, is_endpoint_metric=False):
    """As log(); with run_id into that run. edge_id has never been part of a record."""
    run = _run() if run_id is None or not str(run_id).strip() else _run_of(str(run_id).strip())
    custom = None if customized_step_key is None else _name(customized_step_key)
    parts = {}
    axes = []
    try:
        items = metrics.items()
    except AttributeError:
        raise TypeError("metrics must be a dict such as {'loss': 0.3}, not %s" % type(metrics).__name__) from None
    for key, value in items:
        name = _name(key)
        if name in TAKEN_NAMES:
            if name not in _has_told:
                _has_told.add(name)
                tell("fedml.log: a metric cannot be called %r, which every record has itself; it is left out" % name)
            continue
        parts[name] = key_prefix(name) + value_text(value, name)
        if name in X_NAMES and name not in axes:
            axes.append(name)
    if custom is not None and custom in parts and custom not in axes:
        axes.append(custom)
    run.put(None if step is None else step_number(step), ",".join(parts.values()), axes, commit)


def _name(key):
    name = _name_by_key.get(key) if type(key) is str else None
    if name is None:
        name = str(key).lower().replace("/", "-")
        if type(key) is str and len(_name_by_key) < 20_000:
            _name_by_key[key] = name
    return name


def _run():
    global _current
    run = _current
    if run is None:
        given = os.environ.get("BINNACLE_RUN_ID", "").strip() or os.environ.get("FEDML_CURRENT_RUN_ID", "").strip()
        run = Run(run_id=given or None, explicit_step_moves_counter=False)
        _current = run
        if binnacle._current is None:
            # binnacle.config, binnacle.finish() and the like mean this run.
            binnacle._current = run
        run.start()
        hand_down(run)
    return run


def _run_of(run_id):
    run = _run()
    if run.id == run_id:
        return run
    if run_id not in _runs_by_id:
        _runs_by_id[run_id] = Run(run_id=run_id, explicit_step_moves_counter=False)
    return _runs_by_id[run_id]
