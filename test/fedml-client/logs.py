"""Logs that the client's uploader sends, a batch of a thousand lines at a time. The arguments are a run id and a number of lines."""
import logging
import os
import sys
import time

run, lines = sys.argv[1], int(sys.argv[2])
with open("fedml_config.yaml", "w") as file:
    file.write(
        """
common_args: {training_type: cross_silo, scenario: horizontal, random_seed: 0}
train_args: {client_id_list: '[1]', client_num_per_round: 1, comm_round: 3, backend: MQTT_S3}
tracking_args: {log_file_dir: %s/.fedml/fedml-client/fedml/logs}
"""
        % os.environ["HOME"]
    )
sys.argv = ["train.py", "--cf", "fedml_config.yaml", "--run_id", run, "--rank", "1", "--role", "client", "--run_device_id", "1"]

import fedml
from fedml import mlops

fedml.init(check_env=False)
for number in range(lines):
    logging.info("line %d", number)
try:
    1 / 0
except ZeroDivisionError:
    logging.exception("it failed")
print("printed")
mlops.log_print_init()
# The uploader looks once in three seconds.
time.sleep(5)
logging.info("the last line")
time.sleep(4)
mlops.log_print_cleanup()
time.sleep(4)
os._exit(0)
