"""The calls of FedML's documentation for experiment tracking, recorded by binnacle.

    import fedml
    fedml.log({"acc": 0.1})

Where another `fedml` is installed, importing this one hands over to it, unless BINNACLE_FEDML=native.
"""

import os
import sys


def _other_fedml():
    """The spec of another module of this name on the path, or None."""
    if os.environ.get("BINNACLE_FEDML") == "native":
        return None
    from importlib.machinery import PathFinder

    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    path = [entry for entry in sys.path if os.path.realpath(entry or os.getcwd()) != os.path.realpath(ours)]
    for finder in sys.meta_path:
        find_spec = getattr(finder, "find_spec", None)
        if find_spec is None:
            continue
        # Editable installs bring finders of their own, which know their place without a path.
        spec = PathFinder.find_spec(__name__, path) if finder is PathFinder else find_spec(__name__, None)
        # Without a loader: a folder that happens to be called fedml.
        if spec is not None and spec.loader is not None and spec.origin and os.path.abspath(spec.origin) != os.path.abspath(__file__):
            return spec
    return None


_spec = _other_fedml()
if _spec is not None:
    from importlib.util import module_from_spec

    sys.stderr.write(
        "binnacle: using the fedml in %s; BINNACLE_FEDML=native takes binnacle's own instead\n"
        % os.path.dirname(_spec.origin)
    )
    # The import statement that is under way takes what it finds here when we are done.
    _module = module_from_spec(_spec)
    sys.modules[__name__] = _module
    _spec.loader.exec_module(_module)
else:
    from . import mlops
    from ._calls import (
        ARTIFACT_TYPE_NAME_DATASET,
        ARTIFACT_TYPE_NAME_GENERAL,
        ARTIFACT_TYPE_NAME_LOG,
        ARTIFACT_TYPE_NAME_MODEL,
        ARTIFACT_TYPE_NAME_SOURCE,
        Artifact,
        init,
        log,
        log_artifact,
        log_endpoint,
        log_metric,
        log_model,
    )
    from ._more import (
        get_env_version,
        get_local_on_premise_platform_host,
        get_local_on_premise_platform_port,
        log_llm_record,
        set_env_version,
        set_local_on_premise_platform_host,
        set_local_on_premise_platform_port,
    )

    __all__ = [
        "ARTIFACT_TYPE_NAME_DATASET",
        "ARTIFACT_TYPE_NAME_GENERAL",
        "ARTIFACT_TYPE_NAME_LOG",
        "ARTIFACT_TYPE_NAME_MODEL",
        "ARTIFACT_TYPE_NAME_SOURCE",
        "Artifact",
        "get_env_version",
        "get_local_on_premise_platform_host",
        "get_local_on_premise_platform_port",
        "init",
        "log",
        "log_artifact",
        "log_endpoint",
        "log_llm_record",
        "log_metric",
        "log_model",
        "mlops",
        "set_env_version",
        "set_local_on_premise_platform_host",
        "set_local_on_premise_platform_port",
    ]

    def __getattr__(name):
        where = " (fedml.mlops has it)" if name in mlops.__all__ else ""
        raise AttributeError(
            "binnacle's fedml module has no %r%s: it has what concerns tracking, see dir(fedml) and dir(fedml.mlops); "
            "for all of FedML: pip install fedml" % (name, where)
        )
