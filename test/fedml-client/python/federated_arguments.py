"""FedML's own arguments of a federated client, as its agent would give them: a configuration, a run, a rank and a device."""
import os
import sys

CONFIG = """
common_args: {training_type: cross_silo, scenario: horizontal, random_seed: 0}
train_args: {client_id_list: '[1]', client_num_per_round: 1, comm_round: 3, backend: MQTT_S3}
tracking_args: {log_file_dir: %s/.fedml/fedml-client/fedml/logs}
"""


def give(run):
    with open("fedml_config.yaml", "w") as file:
        file.write(CONFIG % os.environ["HOME"])
    words = ["--cf", "fedml_config.yaml", "--run_id", run, "--rank", "1", "--role", "client", "--run_device_id", "1"]
    sys.argv = ["train.py", *words]
