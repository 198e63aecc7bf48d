"""Many clients, each a process of its own, that publish one record and disconnect at once. The argument is their number."""
import os
import sys

from fedml.core.distributed.communication.mqtt.mqtt_manager import MqttManager
from fedml.core.mlops.mlops_configs import MLOpsConfigs
from fedml.core.mlops.mlops_metrics import MLOpsMetrics

run = os.environ["FEDML_CURRENT_RUN_ID"]
config, _, _, _ = MLOpsConfigs.fetch_all_configs()


def publish(number):
    manager = MqttManager(
        config["BROKER_HOST"],
        config["BROKER_PORT"],
        config["MQTT_USER"],
        config["MQTT_PWD"],
        config["MQTT_KEEPALIVE"],
        "FedML_MLOps_Metrics_one_1_%d" % number,
    )
    manager.connect()
    manager.loop_start()
    metrics = MLOpsMetrics()
    metrics.set_messenger(manager)
    record = {"x_axis_keys": ["step", "timestamp"], "y_axis_keys": ["acc"], "acc": number / 100}
    record.update({"step": number, "run_id": run, "timestamp": 1795000000000.5 + number})
    metrics.report_fedml_train_metric(record, run_id=run)
    # As the client's asynchronous uploads do.
    manager.disconnect()
    manager.loop_stop()


children = []
for number in range(int(sys.argv[1])):
    child = os.fork()
    if child == 0:
        try:
            publish(number)
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
    children.append(child)
sys.exit(max(os.waitpid(child, 0)[1] for child in children))
