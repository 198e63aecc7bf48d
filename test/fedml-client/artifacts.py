"""Artifacts of each type; the arguments are text for their files and the size of a model in bytes."""
import os
import random
import sys
import time

import fedml
from fedml import mlops

TYPES = (
    mlops.ARTIFACT_TYPE_NAME_GENERAL,
    mlops.ARTIFACT_TYPE_NAME_DATASET,
    mlops.ARTIFACT_TYPE_NAME_SOURCE,
    mlops.ARTIFACT_TYPE_NAME_LOG,
)
PIECE = 1 << 20


def main(text, size):
    os.makedirs("folder/inner", exist_ok=True)
    for path in ("notes.txt", "folder/inner/deep.txt"):
        with open(path, "w") as file:
            file.write(text)
    # To the client "twice" as a dataset and "twice" as a log are two.
    names = [(f"my {kind}", kind) for kind in TYPES] + [("twice", TYPES[1]), ("twice", TYPES[3])]
    for name, kind in names:
        artifact = fedml.Artifact(name=name, type=kind)
        artifact.add_file("notes.txt")
        artifact.add_dir("folder")
        artifact.set_ext_info({"kind": kind})
        fedml.log_artifact(artifact, async_upload=False)
    random.seed(text)
    with open("weights.bin", "wb") as file:
        for start in range(0, size, PIECE):
            length = min(PIECE, size - start)
            file.write(random.getrandbits(8 * length).to_bytes(length, "little"))
    # In a process of its own, which publishes and disconnects at once.
    fedml.log_model("net", "weights.bin")
    time.sleep(1.5)


# Version 0.8.30 starts its processes with this file once more.
if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
