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
    log,
    log_artifact,
    log_metric,
    log_model,
)

__all__ = [
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
    "log",
    "log_artifact",
    "log_metric",
    "log_model",
]
