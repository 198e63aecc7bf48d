"""Seconds that MLflow's log_artifact takes for FOLDER/large.bin, and log_artifacts for FOLDER/many. Arguments: URL FOLDER."""
import json
import sys
import time

import mlflow

url, folder = sys.argv[1:]
mlflow.set_tracking_uri(url)
mlflow.set_experiment("files")
took = {}
with mlflow.start_run():
    begun = time.perf_counter()
    mlflow.log_artifact(folder + "/large.bin")
    took["large"] = time.perf_counter() - begun
    begun = time.perf_counter()
    mlflow.log_artifacts(folder + "/many", "many")
    took["small"] = time.perf_counter() - begun
print(json.dumps(took))
