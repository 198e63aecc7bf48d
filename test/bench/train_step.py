"""Times the steps of examples/train_digits.py for so many seconds: JSON with the end of each, and its length in ms."""

import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

EXAMPLE = Path(__file__).resolve().parent.parent.parent / "examples" / "train_digits.py"
SECONDS = float(sys.argv[1])

specification = importlib.util.spec_from_file_location("train_digits", EXAMPLE)
digits = importlib.util.module_from_spec(specification)
specification.loader.exec_module(digits)

begun = time.time()
steps = []


class Enough(Exception):
    pass


class Timed(digits.Network):
    """A step goes from one batch to the next: gradients, descent, log(), progress bar."""

    last = None

    def gradients(self, batch):
        now, mark, used = time.time(), time.perf_counter(), time.thread_time()
        if self.last is not None:
            steps.append((now, 1000 * (mark - self.last[0]), 1000 * (used - self.last[1])))
        if now - begun > SECONDS:
            raise Enough
        self.last = mark, used
        return super().gradients(batch)

    def evaluate(self, examples):
        # What stands between two epochs is no step.
        self.last = None
        return super().evaluate(examples)


digits.Network = Timed
# The progress bar goes nowhere; figures go where it was.
out = sys.stdout
sys.stdout = open(os.devnull, "w")
options = SimpleNamespace(seed=7, quick=False, hidden=32, lr=0.05, epochs=10**6, batch=24, patience=6)
with digits.binnacle.init(project="bench", name="train step"):
    try:
        digits.train(options)
    except Enough:
        pass


json.dump({"steps": steps}, out)
