"""A federated client and server as the documentation has them, started with FedML's own arguments. The argument is a run id."""
import os
import sys
import time

import federated_arguments

federated_arguments.give(sys.argv[1])

import fedml
from fedml import mlops

fedml.init(check_env=False)
mlops.log_training_status("TRAINING")
mlops.log_round_info(3, -1)
for index in range(3):
    mlops.event("train", event_started=True, event_value=str(index))
    mlops.event("train", event_started=False, event_value=str(index))
    mlops.log_round_info(3, index)
# Never ended.
mlops.event("comm_c2s", event_started=True, event_value="3")
fedml.log_llm_record({"prompt": "hello", "completion": "world", "round": 3})
fedml.log_endpoint({"latency": 12.5})
mlops.log_aggregation_status("RUNNING")
mlops.log_training_finished_status()
mlops.log_aggregation_finished_status()
time.sleep(1.5)
# Its log handlers would print through themselves for ever.
os._exit(0)
