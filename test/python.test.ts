import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  findPythons,
  python,
  runPython,
  spooled,
  spooledRecords,
  startPython,
  startServer,
  type Item,
  type TestServer,
} from "./helpers/python.ts";

// Many processes, perhaps on a busy machine.
setDefaultTimeout(60_000);

let server: TestServer;
beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server.remove());

async function until(isSo: () => Promise<unknown>) {
  for (let waited = 0; waited < 20_000; waited += 100) {
    if (await isSo()) return;
    await Bun.sleep(100);
  }
  throw new Error("it has not come about within 20 seconds");
}

/** The run's end comes a moment after its writer's, where the collector has to conclude it. */
async function untilEnded(id: string) {
  await until(async () => (await server.run(id)).finished !== null);
  return server.run(id);
}

describe.each(findPythons())("the documentation's example on Python $version", ({ path }) => {
  const seed = readFileSync(join(import.meta.dirname, "../examples/seed.py"), "utf8");

  test("gives exactly its seven records through fedml", async () => {
    const id = (
      await python(`${seed}\nimport binnacle; print(binnacle.run.id)`, { python: path, env: server.env })
    ).trim();
    expect(await server.keys(id)).toEqual(["acc", "x_index", "loss"]);
    expect(await server.points(id, "acc")).toEqual([
      [0, 0.1],
      [1, 0.11],
      [2, 0.2],
      [3, 0.3],
      [1, 0.31],
      [2, 0.32],
      [4, 0.34],
    ]);
    expect(await server.points(id, "loss")).toEqual([[4, 0.33]]);
    expect(await server.points(id, "acc", "x_index")).toEqual([[2, 0.32]]);
    expect(await server.run(id)).toMatchObject({ status: "FINISHED", exit_code: 0 });
  });

  test("gives the same through binnacle, keys as given", async () => {
    const script = `${seed.replace("import fedml", "import binnacle as fedml")}\nprint(fedml.run.id)`;
    const id = (await python(script, { python: path, env: server.env })).trim();
    expect(await server.keys(id)).toEqual(["ACC", "acc", "x_index", "loss"]);
    expect(await server.points(id, "ACC")).toEqual([[0, 0.1]]);
    expect((await server.points(id, "acc")).map(([step]) => step)).toEqual([1, 2, 3, 1, 2, 4]);
    expect(await server.points(id, "loss")).toEqual([[4, 0.33]]);
  });
});

/** What a script logs, read from its spool. */
async function records(script: string): Promise<unknown[][]> {
  const folder = mkdtempSync(join(tmpdir(), "binnacle-python-"));
  try {
    await python(script, { env: { BINNACLE_SPOOL: folder } });
    return spooledRecords(folder).map(briefly);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** [step, metrics, x axes], the last where there are any. */
const briefly = ({ step, metrics, x }: Item): unknown[] => (x ? [step, metrics, x] : [step, metrics]);

const rules: [what: string, call: string, binnacle: unknown[][], fedml?: unknown[][]][] = [
  [
    "the counter moves on by one",
    `log({"a": 1}); log({"a": 2})`,
    [
      [0, { a: 1 }],
      [1, { a: 2 }],
    ],
  ],
  [
    "an explicit step moves binnacle's counter past it, and not fedml's",
    `log({"a": 1}, step=5); log({"a": 2})`,
    [
      [5, { a: 1 }],
      [6, { a: 2 }],
    ],
    [
      [5, { a: 1 }],
      [0, { a: 2 }],
    ],
  ],
  [
    "an explicit step below the counter leaves it",
    `log({"a": 1}); log({"a": 2}); log({"a": 3}, step=0); log({"a": 4})`,
    [
      [0, { a: 1 }],
      [1, { a: 2 }],
      [0, { a: 3 }],
      [2, { a: 4 }],
    ],
  ],
  [
    "0 and negative steps count as given",
    `log({"a": 1}, step=0); log({"a": 2}, step=-3)`,
    [
      [0, { a: 1 }],
      [-3, { a: 2 }],
    ],
  ],
  [
    "several uncommitted calls and one that commits are one record and one step",
    `log({"a": 1}, commit=False); log({"b": 2}, commit=False); log({"c": 3}); log({"d": 4})`,
    [
      [0, { a: 1, b: 2, c: 3 }],
      [1, { d: 4 }],
    ],
  ],
  [
    "a later value of a key wins",
    `log({"a": 1, "b": 1}, commit=False); log({"a": 2})`,
    [[0, { a: 2, b: 1 }]],
  ],
  [
    "a step given without committing is for the record in binnacle, and lost in fedml",
    `log({"a": 1}, step=7, commit=False); log({"b": 2}); log({"c": 3})`,
    [
      [7, { a: 1, b: 2 }],
      [8, { c: 3 }],
    ],
    [
      [0, { a: 1, b: 2 }],
      [1, { c: 3 }],
    ],
  ],
  [
    "the committing call's own step wins",
    `log({"a": 1}, step=7, commit=False); log({"b": 2}, step=3)`,
    [[3, { a: 1, b: 2 }]],
  ],
  [
    "what nobody commits is recorded at exit",
    `log({"a": 1}); log({"b": 2}, commit=False)`,
    [
      [0, { a: 1 }],
      [1, { b: 2 }],
    ],
  ],
  [
    "an axis of an uncommitted call survives",
    `log({"x": 1}, customized_step_key="x", commit=False); log({"acc": 2})`,
    [[0, { x: 1, acc: 2 }, ["x"]]],
  ],
  [
    "an axis that is not among the call's metrics has no effect",
    `log({"a": 1}, customized_step_key="x", commit=False); log({"x": 2})`,
    [[0, { a: 1, x: 2 }]],
  ],
  [
    "fedml lower-cases keys, turns / into - and knows axes by name",
    `log({"loss": 1, "epoch": 3, "train/Loss": 2, "Round_Idx": 7}, customized_step_key="Train/LOSS")`,
    [[0, { loss: 1, epoch: 3, "train/Loss": 2, Round_Idx: 7 }]],
    [[0, { loss: 1, epoch: 3, "train-loss": 2, round_idx: 7 }, ["epoch", "round_idx", "train-loss"]]],
  ],
  [
    "keys that fall together in fedml: the last wins",
    `log({"ACC": 1, "acc": 2})`,
    [[0, { ACC: 1, acc: 2 }]],
    [[0, { acc: 2 }]],
  ],
  [
    "an empty dict takes a step",
    `log({}); log({"a": 1})`,
    [
      [0, {}],
      [1, { a: 1 }],
    ],
  ],
  [
    "nested dicts become keys in binnacle and stay values in fedml",
    `log({"train": {"loss": 1, "acc": {"top5": 2}}})`,
    [[0, { "train/loss": 1, "train/acc/top5": 2 }]],
    [[0, { train: { loss: 1, acc: { top5: 2 } } }]],
  ],
  ["keys that are no text become text", `log({1: 1, True: 2, 2.5: 3})`, [[0, { "1": 2, "2.5": 3 }]]],
  [
    "fractional steps stay",
    `log({"a": 1}, step=2.5); log({"a": 2}, step=3.0)`,
    [
      [2.5, { a: 1 }],
      [3, { a: 2 }],
    ],
  ],
];

describe.each(["binnacle", "fedml"] as const)("the rules of %s", (module) => {
  const folder = mkdtempSync(join(tmpdir(), "binnacle-python-"));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  // One process, one run a case.
  beforeAll(() =>
    python(
      `
import binnacle, json, sys
for i, calls in enumerate(json.loads(sys.argv[1])):
    if "${module}" == "binnacle":
        binnacle.init(run_id="case%d" % i)
        exec(calls, {"log": binnacle.log})
    else:
        from binnacle._run import Run
        import fedml
        binnacle._current = fedml._calls._current = Run(run_id="case%d" % i, explicit_step_moves_counter=False)
        exec(calls, {"log": fedml.log})
    binnacle.finish()
`,
      { args: [JSON.stringify(rules.map(([, calls]) => calls))], env: { BINNACLE_SPOOL: folder } },
    ),
  );

  test.each(
    rules.map(([what, , native, reference = native], i) => ({
      what,
      i,
      expected: { binnacle: native, fedml: reference },
    })),
  )("$what", ({ i, expected }) => {
    const records = spooled(folder)
      .filter(({ path }) => path === `/api/v1/runs/case${i}/records`)
      .flatMap(({ body }) => body.items as Item[]);
    expect(records.map(briefly)).toEqual(expected[module]);
  });
});

test("numbers of every kind arrive as numbers, and what is no number is kept", async () => {
  const script = `
from decimal import Decimal
from fractions import Fraction
import enum
class Scalar:  # as numpy's and torch's
    def __init__(self, value): self.value = value
    def item(self): return self.value
class Indexed:
    def __index__(self): return 7
class Level(enum.IntEnum): HIGH = 3
class Half(float): pass
class Name(str): pass
import binnacle
binnacle.log({"f32": Scalar(0.5), "i64": Scalar(3), "bool_": Scalar(True), "index": Indexed(), "dec": Decimal("1.5"),
  "frac": Fraction(1, 4), "enum": Level.HIGH, "half": Half(0.5), "nan": float("nan"), "inf": float("inf"),
  "ninf": -float("inf"), "nan32": Scalar(float("nan")), "big": 2**60, "huge": -10**300, "tiny": 5e-324, "true": True,
  "none": None, "text": "é\\u2028\\U0001f600\\n\\ud800", "str": Name("n"), "list": [1, (2, None), Scalar(0.5)], "zero": -0.0})
`;
  expect(await records(script)).toEqual([
    [
      0,
      {
        f32: 0.5,
        i64: 3,
        bool_: true,
        index: 7,
        dec: 1.5,
        frac: 0.25,
        enum: 3,
        half: 0.5,
        nan: "NaN",
        inf: "Infinity",
        ninf: "-Infinity",
        nan32: "NaN",
        big: 2 ** 60,
        huge: -1e300,
        tiny: 5e-324,
        true: true,
        none: null,
        text: "é\u2028\u{1f600}\n\ud800",
        str: "n",
        list: [1, [2, null], 0.5],
        zero: -0,
      },
    ],
  ]);
});

test("what cannot be recorded raises on its line, says why, and breaks nothing later", async () => {
  const script = `
import binnacle, fedml
class Tensor:
    shape = (2, 3)
    def item(self): raise RuntimeError("a Tensor with 6 elements cannot be converted to Scalar")
class Evil:
    def __float__(self): raise ZeroDivisionError("no")
loop = []; loop.append(loop)
bad = [object(), b"x", 1j, {1, 2}, Tensor(), Evil(), 10**400, loop, "x" * 2_000_000]
for log in (binnacle.log, fedml.log):
    for value in bad:
        try: log({"fine": 1, "bad": value})
        except (TypeError, ValueError) as error: assert "bad" in str(error), error; print(type(error).__name__, end=" ")
        else: raise SystemExit("no error for %r" % (value,))
    for key in ("", "a\\nb", "k" * 501, "\\U0001f600" * 251):
        try: log({key: 1})
        except ValueError as error: assert "name" in str(error)
        else: raise SystemExit("no error for %r" % key)
    for step in ("a", float("nan"), float("inf"), 1e308, 2**53, [1]):
        try: log({"a": 1}, step=step)
        except (TypeError, ValueError) as error: assert "step" in str(error)
        else: raise SystemExit("no error for %r" % (step,))
    for metrics in (None, 3, [("a", 1)], "a"):
        try: log(metrics)
        except TypeError as error: assert "dict" in str(error)
        else: raise SystemExit("no error for %r" % (metrics,))
binnacle.log({"after": 1})
`;
  expect(await records(script)).toEqual([[0, { after: 1 }]]);
});

test("threads that log at once lose nothing and share no step", async () => {
  const script = `
import binnacle, threading
run = binnacle.init()
def work(n):
    for i in range(2000): binnacle.log({"t%d" % n: i})
threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
print(run.id)
`;
  const id = (await python(script, { env: server.env })).trim();
  const steps = new Set<number>();
  for (let thread = 0; thread < 8; thread++) {
    const points = await server.points(id, `t${thread}`);
    expect(points.map(([, y]) => y)).toEqual(Array.from({ length: 2000 }, (_, i) => i));
    for (const [step] of points) steps.add(step);
  }
  expect(steps.size).toBe(16_000);
});

test("100,000 calls without a pause arrive, in order", async () => {
  const script = `
import binnacle
run = binnacle.init()
for i in range(100_000): binnacle.log({"i": i})
print(run.id, run.dropped)
`;
  const [id = "", dropped] = (await python(script, { env: server.env })).trim().split(" ");
  expect(dropped).toBe("0");
  const points = await server.points(id, "i");
  expect(points).toHaveLength(100_000);
  expect(points.every(([x, y], i) => x === i && y === i)).toBe(true);
});

describe("children", () => {
  test.each(["fork", "spawn", "forkserver"])(
    "of multiprocessing (%s) report to the run of their parent",
    async (method) => {
      const folder = mkdtempSync(join(tmpdir(), "binnacle-python-"));
      const file = join(folder, "main.py");
      await Bun.write(
        file,
        `
import binnacle, multiprocessing
def work(n):
    for i in range(100): binnacle.log({"child%d" % n: i})
if __name__ == "__main__":
    run = binnacle.init()
    binnacle.log({"parent": 1})
    context = multiprocessing.get_context("${method}")
    children = [context.Process(target=work, args=(n,)) for n in range(2)]
    [c.start() for c in children]; [c.join() for c in children]
    binnacle.log({"parent": 2})
    print(run.id, [c.exitcode for c in children])
`,
      );
      const out = await python(
        `import runpy, sys; sys.argv = [${JSON.stringify(file)}]; runpy.run_path(sys.argv[0], run_name="__main__")`,
        {
          env: {
            ...server.env,
            PYTHONPATH: `${join(import.meta.dirname, "../src/client/python")}:${folder}`,
          },
        },
      );
      rmSync(folder, { recursive: true, force: true });
      const [id = ""] = out.split(" ");
      expect(out).toContain("[0, 0]");
      expect((await server.points(id, "parent")).map(([, y]) => y)).toEqual([1, 2]);
      for (const key of ["child0", "child1"])
        expect((await server.points(id, key)).map(([, y]) => y)).toEqual(
          Array.from({ length: 100 }, (_, i) => i),
        );
      expect(await server.run(id)).toMatchObject({ status: "FINISHED" });
    },
  );

  test("forked while a thread of ours imports deliver all the same", async () => {
    const script = `
import binnacle, os, sys, threading, time
importing = threading.Event()
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "hashlib":
            importing.set()
            time.sleep(0.3)
for name in ("hmac", "hashlib"): sys.modules.pop(name, None)
sys.meta_path.insert(0, Slow())
run = binnacle.init()
print(run.id)
assert importing.wait(10)
child = os.fork()
if child == 0:
    binnacle.log({"child": 1})
    run.finish()
    os._exit(0)
os.waitpid(child, 0)
`;
    const id = (await python(script, { env: server.env })).trim();
    expect((await server.points(id, "child")).map(([, y]) => y)).toEqual([1]);
  });

  test("of a Pool, which ends them by SIGTERM, do not make the run look killed", async () => {
    const script = `
import binnacle, multiprocessing
def work(n): binnacle.log({"squares": n * n}); return n
run = binnacle.init()
with multiprocessing.get_context("fork").Pool(2) as pool: pool.map(work, range(10))
print(run.id)
`;
    const id = (await python(script, { env: server.env })).trim();
    expect((await server.points(id, "squares")).map(([, y]) => Number(y)).sort((a, b) => a - b)).toEqual(
      Array.from({ length: 10 }, (_, n) => n * n),
    );
    expect(await server.run(id)).toMatchObject({ status: "FINISHED" });
  });

  test("forked while the parent logs neither hang nor send its records again", async () => {
    const script = `
import binnacle, os, sys
run = binnacle.init()
for n in range(20):
    for i in range(50): binnacle.log({"parent": n * 50 + i})
    pid = os.fork()
    if pid == 0:
        if n % 2: binnacle.log({"child": n})
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0
print(run.id)
`;
    const id = (await python(script, { env: server.env })).trim().split("\n").at(-1)!;
    expect((await server.points(id, "parent")).map(([, y]) => y)).toEqual(
      Array.from({ length: 1000 }, (_, i) => i),
    );
    expect((await server.points(id, "child")).map(([, y]) => y)).toEqual([1, 3, 5, 7, 9, 11, 13, 15, 17, 19]);
    expect(await server.run(id)).toMatchObject({ status: "FINISHED" });
  });

  test("do not hold the parent's heartbeat open after it was killed", async () => {
    const child = startPython(
      `
import binnacle, os, time
run = binnacle.init()
binnacle.log({"a": 1}); time.sleep(1)
if os.fork() == 0: time.sleep(15); os._exit(0)
print(run.id, "forked", flush=True); time.sleep(60)
`,
      { env: { ...server.env, PYTHONUNBUFFERED: "1" } },
    );
    await child.printed("forked");
    child.process.kill("SIGKILL");
    // stdout is the grandchild's too: what was printed is known, the end of it is not.
    const run = await untilEnded(child.output().split(" ")[0]!);
    expect(run).toMatchObject({ status: "FAILED" });
    expect(run.reason).toMatch(/killed, or crashed/);
  });
});

describe("the end of a script", () => {
  const ends: [what: string, code: string, exitCode: number, expected: Record<string, unknown>][] = [
    ["its last line", "", 0, { status: "FINISHED", exit_code: 0, reason: null }],
    [
      "an exception",
      "raise ValueError('boom')",
      1,
      { status: "FAILED", exit_code: 1, reason: "ValueError: boom" },
    ],
    ["sys.exit(3)", "import sys; sys.exit(3)", 3, { status: "FAILED", exit_code: 3, reason: "sys.exit(3)" }],
    ["sys.exit('why')", "import sys; sys.exit('why')", 1, { status: "FAILED", exit_code: 1, reason: "why" }],
    ["sys.exit(0)", "import sys; sys.exit(0)", 0, { status: "FINISHED", exit_code: 0 }],
    ["KeyboardInterrupt", "raise KeyboardInterrupt", 130, { status: "KILLED", exit_code: 130 }],
    ["an exception inside `with`", "\nwith run: raise SystemExit(4)", 4, { status: "FAILED", exit_code: 4 }],
    ["finish('KILLED')", "run.finish('KILLED', reason='enough')", 0, { status: "KILLED", reason: "enough" }],
    ["finish(exit_code=2)", "binnacle.finish(exit_code=2)", 0, { status: "FAILED", exit_code: 2 }],
  ];
  test.each(ends)("%s", async (_, code, exitCode, expected) => {
    const script = `import binnacle\nrun = binnacle.init()\nprint(run.id, flush=True)\nbinnacle.log({"a": 1})\nbinnacle.log({"b": 2}, commit=False)\n${code}`;
    const result = await runPython(script, { env: server.env });
    if (exitCode === 130)
      expect([130, 2]).toContain(result.code === 130 ? 130 : result.signal === "SIGINT" ? 2 : result.code);
    else expect(result.code).toBe(exitCode);
    const id = result.out.trim();
    expect(await server.run(id)).toMatchObject(expected);
    expect(await server.points(id, "b")).toEqual([[1, 2]]);
  });

  test.each([
    ["SIGINT", "KILLED"],
    ["SIGTERM", "KILLED"],
    ["SIGKILL", "FAILED"],
  ] as const)(
    "%s → %s",
    async (signal, status) => {
      const child = startPython(
        `import binnacle, time\nrun = binnacle.init()\nbinnacle.log({"a": 1})\nprint(run.id, "ready")\nfor i in range(600): time.sleep(0.1)`,
        { env: server.env },
      );
      await child.printed("ready");
      await Bun.sleep(500); // What was logged a moment before SIGKILL may be lost; this was longer ago.
      child.process.kill(signal);
      const { out, signal: by } = await child.ended;
      expect(by).toBe(signal);
      const id = out.split(" ")[0]!;
      expect(await untilEnded(id)).toMatchObject({ status });
      expect(await server.points(id, "a")).toEqual([[0, 1]]);
    },
    30_000,
  );

  test("a stop from outside raises KeyboardInterrupt in the main thread", async () => {
    const child = startPython(
      `
import binnacle, time
run = binnacle.init()
print(run.id, "ready")
try: time.sleep(60)
except KeyboardInterrupt: print("interrupted"); binnacle.log({"last": 1})
`,
      { env: server.env },
    );
    await child.printed("ready");
    const id = child.output().split(" ")[0]!;
    await until(async () => {
      const run = await (await server.request(`/api/v1/runs/${id}`)).json();
      return (run as { writers?: { live: boolean }[] }).writers?.[0]?.live;
    });
    await Bun.sleep(300); // The heartbeat begins a moment after the run does.
    const stopped = await server.request(`/api/v1/runs/${id}/stop`, { reason: "enough of it" });
    expect(stopped.status).toBeLessThan(300);
    const { out, code } = await child.ended;
    expect(out).toContain("interrupted");
    expect(code).toBe(0);
    expect(await server.run(id)).toMatchObject({ status: "KILLED", reason: "enough of it" });
    expect(await server.points(id, "last")).toEqual([[0, 1]]);
  });
});

test("a run that ended goes on from its last step when it is resumed", async () => {
  const id = (
    await python(
      `import binnacle as b\nr = b.init(config={"lr": 1})\nb.log({"a": 1}); b.log({"a": 2})\nprint(r.id)`,
      { env: server.env },
    )
  ).trim();
  const out = await python(
    `import binnacle as b\nr = b.init(run_id="${id}")\nprint(r.config["lr"])\nb.log({"a": 3})`,
    { env: server.env },
  );
  expect(out).toBe("1\n");
  expect((await server.points(id, "a")).map(([step]) => step)).toEqual([0, 1, 2]);
  expect(await server.run(id)).toMatchObject({ status: "FINISHED" });
});

test("BINNACLE_RUN_ID is joined, by fedml too, and log_metric reaches other runs", async () => {
  const env = { ...server.env, BINNACLE_RUN_ID: "the-run" };
  await python(
    `import binnacle\nbinnacle.log({"a": 1})\nbinnacle.log_metric({"b": 1}, run_id="other", edge_id=3)\nbinnacle.log_metric({"a": 2})`,
    { env },
  );
  await python(
    `import fedml\nargs = fedml.init()\nassert args.run_id == "the-run"\nfedml.log({"C": 1})\nfedml.log_metric({"c": 2}, run_id="the-run")`,
    { env },
  );
  expect(await server.points("the-run", "a")).toEqual([
    [0, 1],
    [1, 2],
  ]);
  expect((await server.points("the-run", "c")).map(([, y]) => y)).toEqual([1, 2]);
  expect(await server.points("other", "b")).toEqual([[0, 1]]);
  expect(await server.run("other")).toMatchObject({ status: "FINISHED" });
});

test("init() again ends the run before, unless it is the same run", async () => {
  const script = `
import binnacle
a = binnacle.init(); binnacle.log({"m": 1})
b = binnacle.init(); binnacle.log({"m": 2})
same = binnacle.init(run_id=b.id, config={"late": 1}, tags="t")
assert same is b
binnacle.finish()
for call in (lambda: binnacle.log({"m": 3}), lambda: b.log_line("x")):
    try: call()
    except RuntimeError as error: assert "binnacle.init()" in str(error)
    else: raise SystemExit("no error")
c = binnacle.init(); binnacle.log({"m": 4}); binnacle.finish(); binnacle.finish()
print(a.id, b.id, c.id)
`;
  const ids = (await python(script, { env: server.env })).trim().split(" ");
  for (const [i, value] of [1, 2, 4].entries()) {
    expect(await server.points(ids[i]!, "m")).toEqual([[0, value]]);
    expect(await server.run(ids[i]!)).toMatchObject({ status: "FINISHED" });
  }
  expect(await server.run(ids[1]!)).toMatchObject({ config: { late: 1 }, tags: ["t"] });
});

test("what the collector would refuse of a run is refused by init()", async () => {
  const script = `
import binnacle
loop = {}; loop["loop"] = loop
for arguments in (dict(run_id="a/b"), dict(run_id=""), dict(name=""), dict(name="a\\nb"), dict(project="p" * 251),
                  dict(tags=["t"] * 101), dict(notes="n" * 100_001), dict(config=loop), dict(config={"k" * 1001: 1})):
    try: binnacle.init(**arguments)
    except ValueError as error: pass
    else: raise SystemExit("no error for %r" % list(arguments))
assert binnacle.run is None
`;
  await python(script);
});

test("a URL that is none is said, and everything is kept", async () => {
  const folder = mkdtempSync(join(tmpdir(), "binnacle-python-"));
  for (const url of ["localhost:7070", "http://[", "http://host:port", "ftp://host"]) {
    rmSync(folder, { recursive: true, force: true });
    const { code, err } = await runPython(`import binnacle\nbinnacle.log({"a": 1})`, {
      env: { BINNACLE_URL: url, BINNACLE_SPOOL: folder },
    });
    expect(code).toBe(0);
    expect(err).toContain(url);
    expect(err).not.toContain("Traceback");
    expect(spooledRecords(folder)).toHaveLength(1);
  }
  rmSync(folder, { recursive: true, force: true });
});

test("config, name, tags and notes are recorded and can change", async () => {
  const script = `
import binnacle, argparse
run = binnacle.init(project="p", name="n", tags=["one", "two"], notes="why",
  config=argparse.Namespace(lr=0.1, layers=[1, 2], big=2**70, path=argparse, old=1))
run.config["lr"] = 0.2
run.config.update(opt={"name": "sgd", "nan": float("nan")}, seed=7)
del run.config["old"]
assert dict(binnacle.config)["seed"] == 7 and "old" not in run.config and len(run.config) == 6
run.set(notes="because")
print(run.id, run.url)
`;
  const [id = "", url] = (await python(script, { env: server.env })).trim().split(" ");
  const run = await server.run(id);
  expect(url).toBe(`${server.url}/runs/${id}`);
  expect(run).toMatchObject({ name: "n", project: "p", tags: ["one", "two"], notes: "because" });
  expect(run.config).toMatchObject({
    lr: 0.2,
    layers: [1, 2],
    big: String(2n ** 70n),
    opt: { name: "sgd", nan: "NaN" },
    seed: 7,
  });
  expect(run.config).not.toHaveProperty("old");
});

test("lines of output arrive in order, with their level", async () => {
  const script = `import binnacle\nrun = binnacle.init()\nbinnacle.log_line("one\\ntwo")\nbinnacle.log_line("bad", level="error", stream="stderr")\nprint(run.id)`;
  const id = (await python(script, { env: server.env })).trim();
  const { lines } = await server.get(`/api/v1/runs/${id}/logs`);
  expect(lines.map(({ text, level, stream }: Record<string, string>) => [text, level, stream])).toEqual([
    ["one", null, "stdout"],
    ["two", null, "stdout"],
    ["bad", "ERROR", "stderr"],
  ]);
});

test("ranks are series of their own", async () => {
  const script = `import binnacle, os\nbinnacle.log({"loss": float(os.environ["RANK"])})`;
  for (const rank of ["0", "1"])
    await python(script, { env: { ...server.env, RANK: rank, BINNACLE_RUN_ID: "ranks" } });
  const { metrics } = await server.get("/api/v1/runs/ranks/metrics");
  expect(metrics[0]).toMatchObject({ name: "loss", ranks: [0, 1] });
});

test("random generators stay as they were", async () => {
  const script = `
import random; random.seed(1); state = random.getstate()
import binnacle, fedml
fedml.init(); fedml.log({"a": 1}); binnacle.log({"b": 1}); binnacle.finish()
assert random.getstate() == state
`;
  await python(script, { env: server.env });
});

test.each(["binnacle", "fedml"])("importing %s takes at most 50 ms", async (module) => {
  const script = `
import sys, time
before, began = set(sys.modules), time.perf_counter()
import ${module}
taken, new = time.perf_counter() - began, set(sys.modules) - before
assert not {"ssl", "socket", "http.client", "numpy", "random", "typing"} & new, new
print(1000 * taken)
`;
  const cache = mkdtempSync(join(tmpdir(), "binnacle-python-"));
  const env = { PYTHONDONTWRITEBYTECODE: undefined, PYTHONPYCACHEPREFIX: cache };
  const times: number[] = [];
  for (let attempt = 0; attempt < 7; attempt++) times.push(Number(await python(script, { env })));
  rmSync(cache, { recursive: true, force: true });
  // The best: a busy machine adds to it, and takes nothing away.
  expect(Math.min(...times)).toBeLessThan(50);
});

describe("another fedml on the path", () => {
  const folder = mkdtempSync(join(tmpdir(), "binnacle-python-"));
  const ours = join(import.meta.dirname, "../src/client/python");
  beforeAll(() => Bun.write(join(folder, "fedml/__init__.py"), `from . import part\nname = "theirs"\n`));
  beforeAll(() => Bun.write(join(folder, "fedml/part.py"), ""));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const script = `import fedml, sys\nfrom fedml import part\nprint(fedml.name, fedml is sys.modules["fedml"], fedml.__file__)`;

  test("is handed over to", async () => {
    const { out, err } = await runPython(script, { env: { PYTHONPATH: `${ours}:${folder}` } });
    expect(out).toBe(`theirs True ${join(folder, "fedml/__init__.py")}\n`);
    expect(err).toContain("BINNACLE_FEDML=native");
  });

  test("is left alone with BINNACLE_FEDML=native", async () => {
    const env = { PYTHONPATH: `${ours}:${folder}`, BINNACLE_FEDML: "native" };
    expect(
      await python(
        `import fedml\nprint(fedml.__file__)\nfrom fedml import mlops\nprint(mlops.log is fedml.log)`,
        { env },
      ),
    ).toBe(`${join(ours, "fedml/__init__.py")}\nTrue\n`);
    const { err } = await runPython("import fedml\nfedml.FedMLRunner", { env });
    expect(err).toMatch(/AttributeError: .*no 'FedMLRunner'/);
  });
});
