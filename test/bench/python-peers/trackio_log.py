"""Microseconds of each trackio.log() call with one metric, local store: prints p50 and p99.99."""

import json
import time

import trackio

trackio.init(project="bench", auto_log_gpu=False, auto_log_cpu=False)
took = []
for i in range(100_000):
    begun = time.perf_counter_ns()
    trackio.log({"loss": 0.5 + i})
    took.append(time.perf_counter_ns() - begun)
took.sort()
print(json.dumps({"p50": took[len(took) // 2] / 1e3, "p9999": took[int(len(took) * 0.9999)] / 1e3}))
import os

os._exit(0)
