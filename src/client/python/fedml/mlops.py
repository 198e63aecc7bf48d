"""`from fedml import mlops`."""

from ._calls import log, log_metric

__all__ = ["log", "log_metric"]
