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

# Types of artifacts, and the numbers by which the platform knows them.
ARTIFACT_TYPE_NAME_GENERAL = "general"
ARTIFACT_TYPE_NAME_MODEL = "model"
ARTIFACT_TYPE_NAME_DATASET = "dataset"
ARTIFACT_TYPE_NAME_SOURCE = "source code"
ARTIFACT_TYPE_NAME_LOG = "log"
ARTIFACT_TYPE_GENERAL, ARTIFACT_TYPE_MODEL, ARTIFACT_TYPE_DATASET, ARTIFACT_TYPE_SOURCE, ARTIFACT_TYPE_LOG = 1, 2, 3, 4, 5
artifact_type_map = {
    ARTIFACT_TYPE_NAME_GENERAL: ARTIFACT_TYPE_GENERAL,
    ARTIFACT_TYPE_NAME_MODEL: ARTIFACT_TYPE_MODEL,
    ARTIFACT_TYPE_NAME_DATASET: ARTIFACT_TYPE_DATASET,
    ARTIFACT_TYPE_NAME_SOURCE: ARTIFACT_TYPE_SOURCE,
    ARTIFACT_TYPE_NAME_LOG: ARTIFACT_TYPE_LOG,
}
# The platform's environments: what `version` means.
ENVIRONMENTS = ("dev", "test", "release", "local")
# With async_upload=False a call waits so long for the collector.
WAIT_WITHIN = 60.0

_current = None
# FedML's arguments, where the script has given some: they say which edge this process is.
_args = None
_runs_by_id = {}
_name_by_key = {}
_has_told = set()


def init(args=None, check_env=True, should_init_logs=True, client_id_list=None):
    """Begins the run, if none has begun; returns `args` (an empty namespace where none are given)."""
    global _args
    run = _run()
    _args = args
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


def log_endpoint(metrics, step=None, customized_step_key=None, commit=True):
    """As log(), with which it shares the step counter and what is not committed."""
    log_metric(metrics, step, customized_step_key, commit, is_endpoint_metric=True)


def log_metric(metrics, step=None, customized_step_key=None, commit=True, run_id=None, edge_id=None, is_endpoint_metric=False):
    """As log(); with run_id into that run. edge_id has never been part of a record."""
    run = run_for(run_id)
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


class Artifact:
    """Files and folders under one name; log_artifact logs them together."""

    def __init__(self, name="", type=ARTIFACT_TYPE_NAME_GENERAL):
        if type not in artifact_type_map:
            raise ValueError("an artifact's type is one of %s, not %r" % (", ".join(map(repr, artifact_type_map)), type))
        self.artifact_name = name
        self.artifact_type_name = type
        self.artifact_type = artifact_type_map[type]
        self.artifact_desc = ""
        self.artifact_files = []
        self.artifact_dirs = []
        self.ext_info = {}

    def add_file(self, file_path):
        """Adds a file, under its own name; FileNotFoundError where there is none."""
        self._add(file_path, "add_file")
        self.artifact_files.append(file_path)

    def add_dir(self, dir_path):
        """Adds a folder with all that lies in it, under its own name; FileNotFoundError where there is none."""
        self._add(dir_path, "add_dir")
        self.artifact_dirs.append(dir_path)

    def set_ext_info(self, ext_info):
        """A dict to be kept with the artifact."""
        if not isinstance(ext_info, dict):
            raise TypeError("ext_info must be a dict, not %s" % ext_info.__class__.__name__)
        self.ext_info = ext_info

    def _add(self, path, call):
        from binnacle._artifact import Artifact as Checked

        getattr(Checked("checked"), call)(path)

    def roots(self):
        """As binnacle's Artifact keeps them."""
        from binnacle._artifact import Artifact as Checked

        checked = Checked("checked")
        for path in self.artifact_files:
            checked.add_file(path)
        for path in self.artifact_dirs:
            checked.add_dir(path)
        return checked.roots


def log_artifact(artifact, version=None, run_id=None, edge_id=None, async_upload=True):
    """Logs an Artifact. Its files are sent by a thread, and should stay as they are for so long.

    version (str=None): the platform's environment: dev, test, release. Recorded.
    run_id (str=None): the run that logs it; default this one.
    edge_id (str=None): the device; default this machine. Recorded.
    async_upload (bool=True): with False the call waits until it is sent, for at most a minute.
    """
    if not isinstance(artifact, Artifact):
        raise TypeError("log_artifact takes a fedml.Artifact, not %s" % artifact.__class__.__name__)
    run = run_for(run_id)
    description = artifact.artifact_desc or None
    kind, metadata = artifact.artifact_type_name, artifact.ext_info
    _log_files(run, "artifact", artifact.artifact_name, kind, artifact.roots(), version, edge_id, async_upload, metadata, description)


def log_model(model_name, model_file_path, version=None):
    """Logs a model: a file, or a folder with all that lies in it.

    version (str=None): the platform's environment: dev, test, release. Recorded. (Versions of the model, v1, v2, … are
        numbered by the collector.)
    """
    from binnacle._artifact import roots_of

    _log_files(_run(), "model", model_name, ARTIFACT_TYPE_NAME_MODEL, roots_of(model_file_path), version, None, True)


def _log_files(run, kind, name, type, roots, version, edge_id, is_async, metadata=None, description=None):
    from binnacle._artifact import request_of

    request = request_of(kind, name, type, None, metadata, description, _origin(version, edge_id))
    upload = run.put_files(roots, request)
    if not is_async:
        upload.settle(WAIT_WITHIN)


def _origin(version, edge_id):
    origin = {"edge": str(edge_id if edge_id is not None else _device())[:250]}
    if version is not None:
        origin["environment"] = str(version)[:100]
        if version not in ENVIRONMENTS and "environment" not in _has_told:
            _has_told.add("environment")
            tell(
                "version=%r is recorded as the platform's environment (dev, test, release), which is what `version` means in "
                "this call; versions of what is logged are numbered by the collector" % (version,)
            )
    return origin


def _device():
    from socket import gethostname

    return os.environ.get("FEDML_CURRENT_EDGE_ID", "").strip() or gethostname()


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


def run_for(run_id):
    """The run that is named; FedML's "0" names none, and means the current one."""
    named = "" if run_id is None else str(run_id).strip()
    return _run() if named in ("", "0", "None") else _run_of(named)


def edge_of(edge_id=None):
    """The edge that a call speaks of: the one given, or what FedML's arguments or launcher say that this process is."""
    if edge_id is not None:
        return str(edge_id)
    if _args is not None:
        first = None
        if str(getattr(_args, "rank", "")) == "0":
            first = getattr(_args, "server_id", None)
        else:
            first = getattr(_args, "client_id", None)
            if first is None:
                first = _first_of(getattr(_args, "client_id_list", None))
        if first is not None:
            return str(first)
    named = os.environ.get("FEDML_CURRENT_EDGE_ID", "").strip()
    if named:
        return named
    from binnacle._spans import own_edge

    return own_edge()


def _first_of(listed):
    """Of a list, or of its JSON text."""
    if isinstance(listed, str):
        from json import loads

        try:
            listed = loads(listed)
        except ValueError:
            return None
    return listed[0] if isinstance(listed, (list, tuple)) and listed else None


def _run_of(run_id):
    run = _run()
    if run.id == run_id:
        return run
    if run_id not in _runs_by_id:
        _runs_by_id[run_id] = Run(run_id=run_id, explicit_step_moves_counter=False)
    return _runs_by_id[run_id]
