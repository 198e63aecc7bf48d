"""Times the steps of examples/train_digits.py: one JSON object with milliseconds a step, on the clock and of the processor."""

import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

EXAMPLE = Path(__file__).resolve().parent.parent.parent / "examples" / "train_digits.py"
STEPS = int(sys.argv[1])

specification = importlib.util.spec_from_file_location("train_digits", EXAMPLE)
digits = importlib.util.module_from_spec(specification)
specification.loader.exec_module(digits)

wall, processor = [], []


class Enough(Exception):
    pass


class Timed(digits.Network):
    """A step goes from one batch to the next: gradients, descent, log(), progress bar."""

    def gradients(self, batch):
        wall.append(time.perf_counter())
        processor.append(time.thread_time())
        if len(wall) > STEPS + 1:
            raise Enough
        return super().gradients(batch)


digits.Network = Timed
# The progress bar goes nowhere; figures go where it was.
out = sys.stdout
sys.stdout = open(os.devnull, "w")
options = SimpleNamespace(seed=7, quick=False, hidden=32, lr=0.05, epochs=100, batch=24, patience=6)
with digits.binnacle.init(project="bench", name="train step"):
    try:
        digits.train(options)
    except Enough:
        pass


def steps(times):
    # Without the first, and without those with an evaluation in between, which last ten times as long.
    lengths = sorted(1000 * (b - a) for a, b in zip(times[1:], times[2:]))
    return lengths[: int(0.95 * len(lengths))]


middle = lambda lengths: lengths[len(lengths) // 2]
print(
    json.dumps({"wall": middle(steps(wall)), "processor": sum(steps(processor)) / len(steps(processor))}),
    file=out,
)
