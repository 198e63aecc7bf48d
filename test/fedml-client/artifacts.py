"""One artifact of each type; the arguments are text for their files and the size of a model in bytes."""
import os
import random
import sys
import time

import fedml
from fedml import mlops

text, size = sys.argv[1], int(sys.argv[2])
types = (
    mlops.ARTIFACT_TYPE_NAME_GENERAL,
    mlops.ARTIFACT_TYPE_NAME_DATASET,
    mlops.ARTIFACT_TYPE_NAME_SOURCE,
    mlops.ARTIFACT_TYPE_NAME_LOG,
)
with open("notes.txt", "w") as file:
    file.write(text)
os.makedirs("folder/inner", exist_ok=True)
with open("folder/inner/deep.txt", "w") as file:
    file.write(text)
for kind in types:
    artifact = fedml.Artifact(name="my set", type=kind)
    artifact.add_file("notes.txt")
    artifact.add_dir("folder")
    artifact.set_ext_info({"kind": kind})
    fedml.log_artifact(artifact, async_upload=False)
random.seed(text)
with open("weights.bin", "wb") as file:
    for start in range(0, size, 1 << 20):
        file.write(random.getrandbits(8 * min(1 << 20, size - start)).to_bytes(min(1 << 20, size - start), "little"))
# In a process of its own, which publishes and disconnects at once.
fedml.log_model("net", "weights.bin")
time.sleep(1.5)
