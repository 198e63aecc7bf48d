"""What is neither a metric, a file nor a time: records of language models, output, and what the platform's client does for itself."""

import os
from time import time

from binnacle._values import key_prefix, value_text

from ._calls import _run, init, run_for

_PLATFORM_HOST, _PLATFORM_PORT = "FEDML_ENV_LOCAL_ON_PREMISE_PLATFORM_HOST", "FEDML_ENV_LOCAL_ON_PREMISE_PLATFORM_PORT"


def log_llm_record(metrics, version="release", commit=True):
    """Records what goes into a language model and what comes out, under llm/… beside the metrics. "/" in keys becomes "_", keys
    that begin with "round" are llm/round_idx. With commit=False they wait for the next call, or the end of the run."""
    run = _run()
    gathered = dict(run.gathered)
    try:
        items = metrics.items()
    except AttributeError:
        raise TypeError("metrics must be a dict such as {'prompt': '…'}, not %s" % type(metrics).__name__) from None
    for key, value in items:
        name = str(key).replace("/", "_")
        name = "llm/" + ("round_idx" if name.startswith("round") else name)
        gathered[name] = key_prefix(name) + value_text(value, name)
    run.gathered = gathered
    if commit:
        run.put_gathered()


def log_endpoint_status(endpoint_id, status):
    """How an endpoint is, as the text endpoint/status beside the metrics."""
    word = key_prefix("endpoint/status") + value_text(str(status)[:200], "endpoint/status")
    run_for(None).put_record('{"time":%.3f,"metrics":{%s}}' % (time() * 1000.0, word))


def log_run_log_lines(run_id, device_id, log_list, log_source=None, use_mqtt=False):
    """Records lines of output."""
    run = run_for(run_id)
    for line in [log_list] if isinstance(log_list, str) else log_list:
        line = str(line)
        run.log_line(line[:-1] if line.endswith("\n") else line)


def log_run_logs(logs_json, run_id=0):
    """As log_run_log_lines, of a dict that has them as "logs"."""
    log_run_log_lines(run_id, None, logs_json.get("logs", ()))


def log_print_init():
    """From now on what the script prints is recorded too. Under `binnacle launch` it is by itself."""
    from ._print import begin

    begin(_run())


def log_print_cleanup():
    """The end of what log_print_init began."""
    from ._print import end

    end()


def log_training_model_net_info(model_net, dummy_input_tensor=None):
    """Keeps what the model says of itself (its layers, for a torch module) with the run's config."""
    if model_net is not None:
        _run().config.update({"training_model_net": str(model_net)[:20_000]})


def log_training_model_input_info(input_sizes, input_types):
    """Keeps the shapes and types of a model's input with the run's config."""
    if input_sizes is not None and input_types is not None:
        _run().config.update({"training_model_input": {"sizes": input_sizes, "types": input_types}})


def get_training_model_input_info(training_model_net_url=None, s3_config=None):
    """(shapes, types), as they were logged; (None, None) where they were not."""
    known = _run().config.get("training_model_input")
    return (known.get("sizes"), known.get("types")) if isinstance(known, dict) else (None, None)


def log_sys_perf(sys_args=None):
    """Nothing to do: the collector reads the hardware of its machine by itself, and knows what of it a run uses."""


def stop_sys_perf():
    """Nothing to do: see log_sys_perf."""


def log_server_payload(run_id, edge_id, payload):
    """Nothing to do: it is a message of FedML's own programs to each other."""


def enable_logging_to_file(edge_id=None):
    """Nothing to do: output goes to the collector, under `binnacle launch` or by log_print_init()."""


def pre_setup(args):
    """Notes FedML's arguments, which say which edge this process is."""
    from . import _calls

    _calls._args = args


def get_fedml_args():
    return init()


def set_env_version(version):
    """The platform's environment, for this process and its children; kept in no file."""
    os.environ["FEDML_ENV_VERSION"] = str(version)


def get_env_version():
    return os.environ.get("FEDML_ENV_VERSION", "release")


def set_local_on_premise_platform_host(local_on_premise_platform_host):
    os.environ[_PLATFORM_HOST] = str(local_on_premise_platform_host)


def get_local_on_premise_platform_host():
    return os.environ.get(_PLATFORM_HOST, "127.0.0.1")


def set_local_on_premise_platform_port(local_on_premise_platform_port):
    os.environ[_PLATFORM_PORT] = str(local_on_premise_platform_port)


def get_local_on_premise_platform_port():
    return os.environ.get(_PLATFORM_PORT, "80")
