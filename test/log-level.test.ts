import { expect, test } from "bun:test";
import { recogniseLevel, type LevelState } from "../src/log/level.ts";
import type { LogLevel } from "../src/log/schema.ts";

const lines: [level: LogLevel | null, text: string][] = [
  // Python's logging, its default and common formats
  ["WARNING", "WARNING:root:this will get logged"],
  ["INFO", "INFO:__main__:Epoch 1"],
  ["DEBUG", "DEBUG:urllib3.connectionpool:Starting new HTTPS connection"],
  ["CRITICAL", "CRITICAL:root:no memory left"],
  ["INFO", "2026-11-23 10:00:00,123 - root - INFO - started"],
  ["ERROR", "2026-11-23 10:00:00,123 - my.module - ERROR - it failed"],
  ["INFO", "2026-11-23 10:00:00,123 INFO root: hi"],
  ["WARNING", "2026-11-23 10:00:00,123 [WARNING] train.py:12: lr is high"],
  ["INFO", "11/23/2026 10:00:00 - INFO - __main__ -   Running training"],
  // loguru, structlog, rich, logfmt
  ["INFO", "2026-11-23 10:00:00.123 | INFO     | __main__:<module>:3 - hello"],
  ["INFO", "2026-11-23 10:00:00.123 | SUCCESS  | __main__:f:3 - done"],
  ["DEBUG", "2026-11-23 10:00:00.123 | TRACE    | m:f:1 - deep"],
  ["INFO", "2026-11-23T10:00:00.123Z [info     ] started   key=1"],
  ["WARNING", "[10:00:00] WARNING  something odd   train.py:12"],
  ["ERROR", 'time=2026-11-23T10:00:00Z level=error msg="it broke"'],
  ["WARNING", "ts=1 lvl=warn msg=x"],
  // glog, absl, klog, TensorFlow, XLA
  ["INFO", "I1123 10:00:00.123456  1234 trainer.cc:12] ok"],
  ["WARNING", "W1123 10:00:00.123456 1234 a.py:1] hm"],
  ["ERROR", "E1123 10:00:00.123456  1234 trainer.cc:12] no"],
  ["CRITICAL", "F1123 10:00:00.123456  1234 trainer.cc:12] Check failed"],
  ["INFO", "I20261123 10:00:00.123456  1234 trainer.cc:12] ok"],
  ["WARNING", "2026-11-23 10:00:00.123456: W tensorflow/core/x.cc:1] Could not load"],
  ["INFO", "2026-11-23 10:00:00.123456: I external/xla/x.cc:1] ready"],
  ["ERROR", "2026-11-23 10:00:00.123456: E external/local_xla/x.cc:1] Unable to register cuDNN"],
  // The field's own
  ["INFO", "[INFO|trainer.py:1234] 2026-11-23 10:00:00,123 >> ***** Running training *****"],
  ["WARNING", "[WARNING|modeling_utils.py:12] 2026-11-23 10:00:00,123 >> Some weights"],
  ["INFO", "INFO 11-23 10:00:00 llm_engine.py:98] Initializing an LLM engine"],
  ["ERROR", "ERROR 11-23 10:00:00 engine.py:1] no"],
  ["INFO", "[2026-11-23 10:00:00,123] [INFO] [real_accelerator.py:158:get_accelerator] Setting"],
  ["WARNING", "[2026-11-23 10:00:00,123] [WARNING] [runner.py:203:fetch_hostfile] Unable"],
  [
    "INFO",
    "[FedML-Client @device-id-1] [Mon, 23 Nov 2026 09:33:34.938608884] [INFO] [file.py:12:func] message",
  ],
  [
    "ERROR",
    "[FedML-Server @device-id-1] [Mon, 23 Nov 2026 09:33:34.938608884] [ERROR] [file.py:12:func] message",
  ],
  ["INFO", "INFO: GPU available: True (cuda), used: True"],
  ["INFO", "INFO:     Started server process [12]"],
  ["INFO", "2026-11-23 10:00:00,1\tINFO worker.py:1612 -- Started a local Ray instance"],
  ["INFO", "vm:123:456 [0] NCCL INFO Bootstrap : Using eth0"],
  ["WARNING", "vm:123:456 [0] NCCL WARN Cuda failure"],
  // Other languages
  ["INFO", "26/11/23 10:00:00 INFO SparkContext: Running Spark"],
  ["WARNING", "2026-11-23 10:00:00.123  WARN 1 --- [main] o.s.b: slow"],
  ["DEBUG", "10:00:00.123 [main] DEBUG com.example.Foo - x"],
  ["INFO", "2026-11-23T10:00:00.123456Z  INFO my_crate::module: started"],
  ["ERROR", "2026-11-23T10:00:00.123Z ERROR app: no"],
  ["INFO", "2026-11-23T10:00:00.123Z\tINFO\tmain.go:1\tup"],
  ["WARNING", "npm WARN deprecated x@1"],
  ["ERROR", "npm ERR! code 1"],
  ["ERROR", "error: cannot find value `x` in this scope"],
  ["ERROR", "error[E0425]: cannot find value"],
  ["ERROR", "main.c:3:5: error: expected ';'"],
  ["WARNING", "main.c:3:5: warning: unused variable"],
  ["CRITICAL", "main.c:1:10: fatal error: x.h: No such file or directory"],
  ["CRITICAL", "fatal: not a git repository"],
  ["CRITICAL", "panic: runtime error: index out of range"],
  ["ERROR", "thread 'main' panicked at src/main.rs:2:5:"],
  ["ERROR", "Error: Cannot find module 'x'"],
  ["WARNING", "Warning: something"],
  ["ERROR", "Segmentation fault (core dumped)"],
  // JSON lines
  ["INFO", '{"level":"info","msg":"x"}'],
  ["ERROR", '{"time":"2026","levelname": "ERROR", "message": "x"}'],
  ["CRITICAL", '{"severity":"CRITICAL","message":"x"}'],
  ["WARNING", '{"level":40,"time":1,"msg":"x"}'],
  ["DEBUG", '{"level":20,"time":1}'],
  ["CRITICAL", '{"level":60}'],
  [null, '{"level":3,"loss":0.1}'],
  [null, '{"loss":0.1,"error":"none"}'],
  // Python's warnings and exceptions
  ["WARNING", "/usr/lib/python3/site.py:12: UserWarning: this is odd"],
  ["WARNING", "train.py:3: DeprecationWarning: use y"],
  ["WARNING", "FutureWarning: will change"],
  ["ERROR", "ValueError: bad"],
  ["ERROR", "torch.cuda.OutOfMemoryError: CUDA out of memory."],
  ["ERROR", "KeyboardInterrupt"],
  // Colours are no part of it
  ["ERROR", "\u001b[31mERROR\u001b[0m: red"],
  ["WARNING", "\u001b[33m[WARN]\u001b[0m careful"],
  ["INFO", "[\u001b[32mINFO\u001b[0m] green"],
  // Others
  ["INFO", "<info> NetworkManager: up"],
  ["CRITICAL", "[FATAL] stop"],
  ["DEBUG", "[debug] x"],
  ["ERROR", "ERROR"],
  ["INFO", "(INFO) x"],
  ["WARNING", "  WARNING: indented"],
  // No level: words are only words
  [null, ""],
  [null, "hello world"],
  [null, "Epoch 1/10: loss=0.3"],
  [null, "no error found"],
  [null, "training error 0.12, test error 0.15"],
  [null, "Information about the run"],
  [null, "Debugging is fun"],
  [null, "the warning light is on"],
  [null, "mean absolute error: 0.3"],
  [null, "Errors: 0"],
  [null, "error rate 3%"],
  [null, "val_error=0.12"],
  [null, "critical batch size 512"],
  [null, "Fatality rate"],
  [null, "information: none"],
  [null, "I think 2026 is fine"],
  [null, "E 1123"],
  [null, "D2 12:00"],
  [null, "loss (error) is small"],
  [null, "success! 3 of 3 passed"],
  [null, "100%|##########| 10/10 [00:01<00:00,  9.9it/s]"],
  [null, `${"x".repeat(500)} ERROR: far behind`],
];

for (const [level, text] of lines)
  test(`${level ?? "none"}: ${JSON.stringify(text.slice(0, 80))}`, () => {
    expect(recogniseLevel(text, "plain").level).toBe(level);
  });

function levelsOf(text: string): (LogLevel | null)[] {
  let state: LevelState = "plain";
  return text.split("\n").map((line) => {
    const found = recogniseLevel(line, state);
    state = found.state;
    return found.level;
  });
}

test("a traceback is an error from its header to its exception", () => {
  expect(
    levelsOf(`start
Traceback (most recent call last):
  File "a.py", line 3, in <module>
    f()
    ~^^
ValueError: bad
after`),
  ).toEqual([null, "ERROR", "ERROR", "ERROR", "ERROR", "ERROR", null]);
});

test("chained tracebacks are one", () => {
  const levels = levelsOf(`Traceback (most recent call last):
  File "a.py", line 3, in <module>
KeyError: 'x'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "a.py", line 5, in <module>
RuntimeError: y
done`);
  expect(levels).toEqual([
    "ERROR",
    "ERROR",
    "ERROR",
    null,
    "ERROR",
    "ERROR",
    "ERROR",
    "ERROR",
    "ERROR",
    null,
  ]);
});

test("a traceback behind a launcher's prefix", () => {
  expect(
    levelsOf(`[rank0]: Traceback (most recent call last):
[rank0]:   File "a.py", line 3
[rank0]: RuntimeError: x
fine`),
  ).toEqual(["ERROR", "ERROR", "ERROR", null]);
});

test("a traceback cut off by another line that says its level", () => {
  expect(
    levelsOf(`Traceback (most recent call last):
  File "a.py", line 3
INFO: still running`),
  ).toEqual(["ERROR", "ERROR", "INFO"]);
});

test("an exception of the user's own is one too", () => {
  expect(
    levelsOf(`Traceback (most recent call last):
  File "a.py", line 3
my.module.Boom
ok`),
  ).toEqual(["ERROR", "ERROR", "ERROR", null]);
});

test("no line takes long, whatever stands in it", () => {
  for (const text of [
    "[".repeat(1_000_000),
    "(".repeat(1_000_000),
    " ".repeat(1_000_000),
    "E1".repeat(500_000),
    "a:".repeat(500_000),
    "[info".repeat(200_000),
    "A.".repeat(500_000),
  ]) {
    const started = performance.now();
    for (let times = 0; times < 20; times++) recogniseLevel(text, "plain");
    expect(performance.now() - started).toBeLessThan(200);
  }
});
