"""`from fedml import mlops`."""

from ._calls import (
    ARTIFACT_TYPE_DATASET,
    ARTIFACT_TYPE_GENERAL,
    ARTIFACT_TYPE_LOG,
    ARTIFACT_TYPE_MODEL,
    ARTIFACT_TYPE_NAME_DATASET,
    ARTIFACT_TYPE_NAME_GENERAL,
    ARTIFACT_TYPE_NAME_LOG,
    ARTIFACT_TYPE_NAME_MODEL,
    ARTIFACT_TYPE_NAME_SOURCE,
    ARTIFACT_TYPE_SOURCE,
    Artifact,
    artifact_type_map,
    init,
    log,
    log_artifact,
    log_endpoint,
    log_metric,
    log_model,
)
from ._more import (
    enable_logging_to_file,
    get_fedml_args,
    get_training_model_input_info,
    log_endpoint_status,
    log_llm_record,
    log_print_cleanup,
    log_print_init,
    log_run_log_lines,
    log_run_logs,
    log_server_payload,
    log_sys_perf,
    log_training_model_input_info,
    log_training_model_net_info,
    pre_setup,
    stop_sys_perf,
)
from ._timeline import (
    event,
    log_aggregated_model_info,
    log_aggregation_exception_status,
    log_aggregation_failed_status,
    log_aggregation_finished_status,
    log_aggregation_status,
    log_client_model_info,
    log_round_info,
    log_training_failed_status,
    log_training_finished_status,
    log_training_status,
    register_run_status_callback,
    send_exit_train_msg,
)


class ClientConstants:
    """The words for how an edge is."""

    MSG_MLOPS_CLIENT_STATUS_OFFLINE = "OFFLINE"
    MSG_MLOPS_CLIENT_STATUS_PROVISIONING = "PROVISIONING"
    MSG_MLOPS_CLIENT_STATUS_IDLE = "IDLE"
    MSG_MLOPS_CLIENT_STATUS_UPGRADING = "UPGRADING"
    MSG_MLOPS_CLIENT_STATUS_QUEUED = "QUEUED"
    MSG_MLOPS_CLIENT_STATUS_INITIALIZING = "INITIALIZING"
    MSG_MLOPS_CLIENT_STATUS_TRAINING = "TRAINING"
    MSG_MLOPS_CLIENT_STATUS_RUNNING = "RUNNING"
    MSG_MLOPS_CLIENT_STATUS_STOPPING = "STOPPING"
    MSG_MLOPS_CLIENT_STATUS_KILLED = "KILLED"
    MSG_MLOPS_CLIENT_STATUS_FAILED = "FAILED"
    MSG_MLOPS_CLIENT_STATUS_EXCEPTION = "EXCEPTION"
    MSG_MLOPS_CLIENT_STATUS_FINISHED = "FINISHED"


class ServerConstants:
    """The words for how a run, and its server, is."""

    MSG_MLOPS_SERVER_STATUS_OFFLINE = "OFFLINE"
    MSG_MLOPS_SERVER_STATUS_PROVISIONING = "PROVISIONING"
    MSG_MLOPS_SERVER_STATUS_IDLE = "IDLE"
    MSG_MLOPS_SERVER_STATUS_UPGRADING = "UPGRADING"
    MSG_MLOPS_SERVER_STATUS_STARTING = "STARTING"
    MSG_MLOPS_SERVER_STATUS_RUNNING = "RUNNING"
    MSG_MLOPS_SERVER_STATUS_STOPPING = "STOPPING"
    MSG_MLOPS_SERVER_STATUS_KILLED = "KILLED"
    MSG_MLOPS_SERVER_STATUS_FAILED = "FAILED"
    MSG_MLOPS_SERVER_STATUS_FINISHED = "FINISHED"
    MSG_MLOPS_SERVER_STATUS_EXCEPTION = "EXCEPTION"


__all__ = [
    "ClientConstants",
    "ServerConstants",
    "ARTIFACT_TYPE_DATASET",
    "ARTIFACT_TYPE_GENERAL",
    "ARTIFACT_TYPE_LOG",
    "ARTIFACT_TYPE_MODEL",
    "ARTIFACT_TYPE_NAME_DATASET",
    "ARTIFACT_TYPE_NAME_GENERAL",
    "ARTIFACT_TYPE_NAME_LOG",
    "ARTIFACT_TYPE_NAME_MODEL",
    "ARTIFACT_TYPE_NAME_SOURCE",
    "ARTIFACT_TYPE_SOURCE",
    "Artifact",
    "artifact_type_map",
    "enable_logging_to_file",
    "event",
    "get_fedml_args",
    "get_training_model_input_info",
    "init",
    "log",
    "log_aggregated_model_info",
    "log_aggregation_exception_status",
    "log_aggregation_failed_status",
    "log_aggregation_finished_status",
    "log_aggregation_status",
    "log_artifact",
    "log_client_model_info",
    "log_endpoint",
    "log_endpoint_status",
    "log_llm_record",
    "log_metric",
    "log_model",
    "log_print_cleanup",
    "log_print_init",
    "log_round_info",
    "log_run_log_lines",
    "log_run_logs",
    "log_server_payload",
    "log_sys_perf",
    "log_training_failed_status",
    "log_training_finished_status",
    "log_training_model_input_info",
    "log_training_model_net_info",
    "log_training_status",
    "pre_setup",
    "register_run_status_callback",
    "send_exit_train_msg",
    "stop_sys_perf",
]
