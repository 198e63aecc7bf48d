"""binnacle: records what a training does.

    import binnacle

    binnacle.init(project="digits", config={"lr": 0.01})
    for loss in train():
        binnacle.log({"train/loss": loss})

`log` never waits for a lock, the network or a disk: a thread sends what was logged, and keeps it on disk while no collector
answers. What a process that is killed with SIGKILL can lose is what it logged in the last moments: a twentieth of a second
while the collector answers at once, about a second where it hangs.
"""

__version__ = "0.0.0"
__all__ = [
    "Artifact",
    "ArtifactError",
    "Run",
    "config",
    "finish",
    "init",
    "log",
    "log_artifact",
    "log_line",
    "log_metric",
    "log_model",
    "run",
    "span",
    "use_artifact",
]

# The rest is imported when a run begins: `import binnacle` costs next to nothing.
_current = None
_runs_by_id = {}


def init(project=None, name=None, run_id=None, config=None, tags=None, notes=None):
    """Begins a run and makes it the current one; usable in `with`.

    run_id: joins the run of this id where it is live, resumes it where it has ended (counting on from its last step),
    creates it where it is unknown. Default: $BINNACLE_RUN_ID, which `binnacle launch` sets; else a new id.
    config: a dict (or argparse.Namespace) to be kept with the run; run.config["lr"] = 0.1 changes it later.

    A run that this process has begun before is finished first, unless it is the same one.
    """
    global _current
    from ._run import Run, hand_down

    run = Run(project, name, run_id, config, tags, notes)
    if _current is not None and _current.is_live:
        if _current.id == run.id:
            if config:
                _current.config.update(run.config)
            _current.set(name, project, run.tags or None, notes)
            return _current
        _current.finish()
    _current = run
    run.start()
    hand_down(run)
    run.wait_until_known()
    return run


def log(metrics, step=None, customized_step_key=None, commit=True):
    """Records metrics, {"train/loss": 0.3, "accuracy": 0.9}, at one step.

    metrics: numbers (numpy and torch scalars too), text, bool, None, lists. Keys stay as they are; a dict inside becomes
        keys joined by "/". NaN and infinities are values. A value that cannot be recorded raises TypeError or ValueError.
    step: default the run's counter, which moves on by one. A step s given here also moves it, to at least s + 1. Steps
        may repeat and go backwards.
    customized_step_key: one of the keys, to be the x axis of the others.
    commit: with False the metrics are kept, to go with the next call that commits, in one record. What nobody commits is
        recorded when the run ends.

    Without init() it begins a run by itself.
    """
    run = _current
    if run is None:
        run = _begin()
    run.log(metrics, step, customized_step_key, commit)


def log_metric(metrics, step=None, customized_step_key=None, commit=True, run_id=None, edge_id=None):
    """As log(); with run_id into that run. edge_id is accepted and has no effect."""
    run = _current
    if run_id is not None and (run is None or run.id != str(run_id)):
        run = _runs_by_id.get(str(run_id))
        if run is None:
            from ._run import Run

            run = _runs_by_id[str(run_id)] = Run(run_id=run_id)
    elif run is None:
        run = _begin()
    run.log(metrics, step, customized_step_key, commit)


def log_line(text, level=None, stream="stdout"):
    """Records lines of output, where `binnacle launch` does not capture them."""
    (_current or _begin()).log_line(text, level, stream)


def span(name, value=None, edge=None):
    """Records how long something takes, shown in the run's timeline:

        with binnacle.span("eval", value=epoch):
            evaluate()

    It begins with this call and ends with the block, or with its end(). One that never ends is shown as open.
    value: what tells it from others of its name.
    edge: the lane that it stands in; default the run's own, for a rank above 0 one of its own.
    """
    return (_current or _begin()).span(name, value, edge)


def log_model(name, path, aliases=None, metadata=None, description=None):
    """Logs a file, or a folder with all that lies in it, as the next version of a model; the same files as its newest version
    are that version.

    The call returns at once; a thread reads and sends the files, so they should stay as they are for so long. Its answer's
    `wait()` waits until they are sent, and returns the version, such as "v3".

    aliases: such as "best"; an alias moves here from the version that had it. "latest" is always the newest.
    metadata: a dict to be kept with the version.
    """
    return (_current or _begin()).log_model(name, path, aliases, metadata, description)


def log_artifact(artifact, paths=None, type=None, aliases=None, metadata=None, description=None):
    """Logs files and folders as the next version of an artifact: an Artifact, or a name and one path or several.

    One folder alone is what lies in it; of several paths each stands under its own name.
    type: general (the default), model, dataset, source code, log, or any other word. The rest is as with log_model.
    """
    return (_current or _begin()).log_artifact(artifact, paths, type, aliases, metadata, description)


def use_artifact(name, version="latest", kind="artifact", to=None):
    """Downloads a version of an artifact (kind="model": of a model), notes that the run uses it, and returns the folder.

    version: such as "v3", or an alias.
    to: the folder; default ./artifacts/NAME-VERSION. A file that lies there already is not fetched again; another of its name
        is replaced. Every file is checked against its digest.
    """
    return (_current or _begin()).use_artifact(name, version, kind, to)


def finish(status=None, exit_code=None, reason=None):
    """Ends the current run; see Run.finish. At the end of a script this happens by itself."""
    if _current is not None:
        _current.finish(status, exit_code, reason)


def _begin():
    """The run of a script that logs without init()."""
    global _current
    from ._run import Run, hand_down

    run = Run()
    _current = run
    run.start()
    hand_down(run)
    return run


def __getattr__(name):
    if name == "config":
        return (_current or _begin()).config
    if name == "run":
        return _current
    if name == "Run":
        from ._run import Run

        return Run
    if name == "Artifact":
        from ._artifact import Artifact

        return Artifact
    if name == "ArtifactError":
        from ._artifact import ArtifactError

        return ArtifactError
    raise AttributeError("module 'binnacle' has no attribute %r" % name)
