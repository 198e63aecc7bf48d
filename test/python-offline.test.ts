import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  createSink,
  python,
  runPython,
  spooled,
  spooledRecords,
  startPython,
  startServer,
  type Item,
  type Sink,
} from "./helpers/python.ts";

// Many processes, perhaps on a busy machine.
setDefaultTimeout(60_000);

let folder: string;
let spool: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "binnacle-python-"));
  spool = join(folder, "spool");
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const logThousand = `
import binnacle
run = binnacle.init(name="offline", config={"lr": 0.1})
for i in range(1000): binnacle.log({"i": i})
print(run.id)
`;
const thousand = Array.from({ length: 1000 }, (_, i) => i);

test("without a collector everything is kept, said once with what to do, and readable by the owner alone", async () => {
  const { code, out, err } = await runPython(logThousand, { env: { BINNACLE_SPOOL: spool } });
  expect(code).toBe(0);
  expect(err.match(/binnacle start/g)).toHaveLength(1);
  expect(err).toContain("binnacle sync");
  const lines = spooled(spool);
  expect(lines[0]).toMatchObject({
    path: "/api/v1/runs",
    body: { id: out.trim(), name: "offline", config: { lr: 0.1 }, writer: { role: "client", rank: 0 } },
  });
  expect(lines.at(-1)).toMatchObject({
    path: `/api/v1/runs/${out.trim()}/finish`,
    body: { status: "FINISHED" },
  });
  expect(spooledRecords(spool).map(({ metrics }) => metrics["i"])).toEqual(thousand);
  const batches = lines.filter(({ body }) => "seq" in body);
  expect(batches.map(({ body }) => body.seq)).toEqual(batches.map((_, i) => i + 1));
  const files = readdirSync(spool);
  expect(files).toEqual([`${out.trim()}-${lines[0]!.body.writer.client}.ndjson`]);
  expect(statSync(join(spool, files[0]!)).mode & 0o777).toBe(0o600);
});

test("the next process that finds the collector sends what earlier ones had to keep", async () => {
  const id = (await python(logThousand, { env: { BINNACLE_SPOOL: join(folder, "spool") } })).trim();
  const file = join(spool, readdirSync(spool)[0]!);
  // A torn last line, as SIGKILL leaves it.
  writeFileSync(file, '{"v":1,"path":"/api/v1/ru', { flag: "a" });
  rmSync(join(folder, "binnacle.db"), { force: true });
  const server = await startServer(mkdtempSync(join(tmpdir(), "binnacle-python-")));
  try {
    const script = `
import binnacle, os, time
binnacle.log({"own": 1})
for _ in range(100):
    if not os.listdir(${JSON.stringify(spool)}): break
    time.sleep(0.1)
`;
    await python(script, { env: { ...server.env, BINNACLE_SPOOL: spool } });
    expect(readdirSync(spool)).toEqual([]);
    expect((await server.points(id, "i")).map(([, y]) => y)).toEqual(thousand);
    expect(await server.run(id)).toMatchObject({ name: "offline", status: "FINISHED", exit_code: 0 });
  } finally {
    await server.remove();
  }
});

test("a run goes on while the collector is killed and started again; all arrives, once", async () => {
  let server = await startServer(folder);
  const { port } = new URL(server.url);
  const script = `
import binnacle, sys
run = binnacle.init()
print(run.id, flush=True)
i = 0
for line in sys.stdin:
    for _ in range(500):
        binnacle.log({"i": i}); i += 1
    print("logged", i, flush=True)
`;
  const child = startPython(script, { env: server.env });
  const logMore = async (upTo: number) => {
    child.process.stdin.write("more\n");
    child.process.stdin.flush();
    await child.printed(`logged ${upTo}\n`);
  };
  await logMore(500);
  const id = child.output().split("\n")[0]!;
  server.process.kill("SIGKILL");
  await server.process.exited;
  await logMore(1000);
  await Bun.sleep(700);
  await logMore(1500);
  server = await startServer(folder, port);
  await logMore(2000);
  child.process.stdin.end();
  const { code, err } = await child.ended;
  expect({ code, err }).toMatchObject({ code: 0 });
  expect((await server.points(id, "i")).map(([, y]) => y)).toEqual(Array.from({ length: 2000 }, (_, i) => i));
  expect(await server.run(id)).toMatchObject({ status: "FINISHED" });
  expect(existsSync(spool) ? readdirSync(spool) : []).toEqual([]);
  await server.stop();
});

describe("a call never waits", () => {
  let sink: Sink;
  beforeEach(() => {
    sink = createSink();
  });
  afterEach(() => sink.stop());

  test("for a folder that cannot be written", async () => {
    writeFileSync(spool, "a file where the folder should be");
    const { code, err } = await runPython(logThousand, { env: { BINNACLE_SPOOL: spool } });
    expect(code).toBe(0);
    expect(err).toMatch(/the last 1000 records are lost/);
  });

  test("and SIGKILL takes at most what was logged in the last second from a hung collector", async () => {
    sink.answer = () => new Promise(() => {});
    const child = startPython(
      `import binnacle, time\nfor i in range(10**9):\n    binnacle.log({"i": i}); time.sleep(0.001)\n    if i == 3000: print("now")`,
      { env: { BINNACLE_URL: sink.url, BINNACLE_SPOOL: spool } },
    );
    await child.printed("now");
    child.process.kill("SIGKILL");
    await child.ended;
    const kept = spooledRecords(spool).map(({ metrics }) => metrics["i"]);
    expect(kept.length).toBeGreaterThan(1500);
    expect(kept).toEqual(Array.from({ length: kept.length }, (_, i) => i));
  });
});

describe("a collector that refuses", () => {
  let sink: Sink;
  beforeEach(() => {
    sink = createSink();
  });
  afterEach(() => sink.stop());

  const itemsAt = (): Item[] => sink.requests.flatMap(({ body }) => (body?.items ?? []) as Item[]);
  const slowly = `
import binnacle, time
for i in range(3):
    binnacle.log({"i": i}); time.sleep(0.3)
`;

  const problem = (code: string, status: number, more: object) =>
    Response.json({ type: `urn:binnacle:${code}`, ...more }, { status });

  test("one batch gets the others, and the refused one lies aside", async () => {
    sink.answer = (_, __, body) =>
      (body as { items?: Item[] } | undefined)?.items?.some(({ metrics }) => metrics["i"] === 1)
        ? problem("invalid", 400, { detail: "Too odd.", hint: "Be even." })
        : undefined;
    const { code, err } = await runPython(slowly, { env: { BINNACLE_URL: sink.url, BINNACLE_SPOOL: spool } });
    expect(code).toBe(0);
    expect(err).toContain("Too odd. Be even.");
    expect(itemsAt().map(({ metrics }) => metrics["i"])).toEqual([0, 2]);
    const refused = readdirSync(spool);
    expect(refused).toHaveLength(1);
    expect(readFileSync(join(spool, refused[0]!), "utf8")).toContain('"metrics":{"i":1}');
  });

  test("one batch lies aside and counts once, though its number could not be filled at first", async () => {
    let fails = 2;
    let odd: number | undefined;
    sink.answer = (_, __, body) => {
      const { seq, items } = (body ?? {}) as { seq?: number; items?: Item[] };
      if (items?.some(({ metrics }) => metrics["i"] === 1)) {
        odd = seq;
        return problem("invalid", 400, { detail: "Too odd." });
      }
      const isFilling = odd !== undefined && seq === odd && items?.length === 0;
      return isFilling && fails-- > 0 ? problem("busy", 503, { detail: "Not now." }) : undefined;
    };
    const env = { BINNACLE_URL: sink.url, BINNACLE_SPOOL: spool };
    const { code, err } = await runPython(slowly, { env });
    expect(code).toBe(0);
    expect(fails).toBeLessThan(0);
    expect(err.match(/refused part of the run/g)).toHaveLength(1);
    expect(err).toContain("binnacle: 1 records or lines were refused");
    expect(itemsAt().map(({ metrics }) => metrics["i"])).toEqual([0, 2]);
    const [refused] = readdirSync(spool);
    expect(readFileSync(join(spool, refused!), "utf8").trimEnd().split("\n")).toHaveLength(1);
  });

  describe("what an earlier process left behind", () => {
    const file = () => join(spool, "r1-c1.ndjson");
    const batch = (seq: number) =>
      `{"v":1,"path":"/api/v1/runs/r1/records","body":{"client":"c1","seq":${seq},"items":[{"metrics":{"i":${seq}}}]}}\n`;
    const send = () =>
      runPython(slowly, { env: { BINNACLE_URL: sink.url, BINNACLE_SPOOL: spool, BINNACLE_TOKEN: "" } });
    const isOfTheFile = (body: unknown) => (body as { client?: string } | undefined)?.client === "c1";

    test("is put aside once, though the try before this one broke off right after it", async () => {
      sink.answer = (_, __, body) =>
        isOfTheFile(body) && (body as { items: Item[] }).items[0]?.metrics["i"] === 1
          ? problem("invalid", 400, { detail: "Too odd." })
          : undefined;
      mkdirSync(spool, { recursive: true });
      writeFileSync(file(), batch(1) + batch(2));
      writeFileSync(`${file()}.refused`, batch(1));
      await send();
      expect(existsSync(file())).toBe(false);
      expect(readFileSync(`${file()}.refused`, "utf8")).toBe(batch(1));
    });

    test("is sent with what its writer, on another machine, adds meanwhile", async () => {
      mkdirSync(spool, { recursive: true });
      const torn = batch(2).slice(0, 40);
      writeFileSync(file(), batch(1) + torn);
      let isFirst = true;
      sink.answer = (_, __, body) => {
        if (isOfTheFile(body) && isFirst) {
          isFirst = false;
          appendFileSync(file(), batch(2).slice(40) + batch(3));
        }
        return undefined;
      };
      await send();
      expect(existsSync(file())).toBe(false);
      const sent = sink.requests.filter(({ body }) => isOfTheFile(body));
      expect(sent.map(({ body }) => body?.["seq"])).toEqual([1, 2, 3]);
    });
  });

  test("because the run was deleted hears no more of it", async () => {
    sink.answer = (_, path) =>
      path.endsWith("/records") ? problem("gone", 410, { detail: "Run x was deleted." }) : undefined;
    const { code, err } = await runPython(slowly, { env: { BINNACLE_URL: sink.url, BINNACLE_SPOOL: spool } });
    expect(code).toBe(0);
    expect(err).toContain("was deleted");
    expect(existsSync(spool) ? readdirSync(spool) : []).toEqual([]);
  });

  test("because it never heard of the run is told of it again", async () => {
    let isNew = true;
    sink.answer = (_, path) => {
      if (path.endsWith("/records") && isNew) {
        isNew = false;
        return problem("not-found", 404, { detail: "There is no run." });
      }
      return undefined;
    };
    await python(slowly, { env: { BINNACLE_URL: sink.url, BINNACLE_SPOOL: spool } });
    expect(itemsAt().map(({ metrics }) => metrics["i"])).toEqual([0, 1, 2]);
    expect(sink.requests.filter(({ path }) => path === "/api/v1/runs")).toHaveLength(2);
  });

  test.each([200, 400, 404, 405, 413])(
    "by what is no collector (%d) is kept for the collector",
    async (status) => {
      sink.answer = (_, path) =>
        path.endsWith("/records") ? new Response("<html></html>", { status }) : undefined;
      const { code } = await runPython(slowly, { env: { BINNACLE_URL: sink.url, BINNACLE_SPOOL: spool } });
      expect(code).toBe(0);
      expect(spooledRecords(spool).map(({ metrics }) => metrics["i"])).toEqual([0, 1, 2]);
    },
  );

  describe("data, its disk being full,", () => {
    beforeEach(() => {
      sink.answer = (_, path) =>
        path.endsWith("/records") ? problem("disk-full", 507, { detail: "Nothing was stored." }) : undefined;
    });
    const run = (env: Record<string, string> = {}) =>
      runPython(slowly, { env: { BINNACLE_URL: sink.url, BINNACLE_SPOOL: spool, ...env } });
    const finishes = () => sink.requests.filter(({ path }) => path.endsWith("/finish"));

    test("hears of the run's end ahead of the data, which is kept", async () => {
      const { code } = await run();
      expect(code).toBe(0);
      expect(finishes().map(({ body }) => body)).toMatchObject([{ status: "FINISHED", exit_code: 0 }]);
      expect(spooledRecords(spool).map(({ metrics }) => metrics["i"])).toEqual([0, 1, 2]);
      expect(spooled(spool).at(-1)!.path).toEndWith("/finish");
    });

    test("hears of the run's end where the spool cannot be written either", async () => {
      writeFileSync(spool, "a file where the folder should be");
      await run();
      expect(finishes().map(({ body }) => body)).toMatchObject([{ status: "FINISHED", exit_code: 0 }]);
    });

    test("is running: nobody is told to start another", async () => {
      const { err } = await run();
      expect(err).toContain("Nothing was stored. The run goes on");
      expect(err).not.toContain("binnacle start");
    });

    test("under launch is not the user's to care for: launch sends what is left", async () => {
      const { err } = await run({ BINNACLE_RUN_ID: "1", BINNACLE_LAUNCH: "1" });
      expect(err).toContain("it is sent by `binnacle launch`, or by `binnacle sync`.");
    });
  });

  test("because of the token keeps everything for the right one", async () => {
    sink.answer = () => Response.json({ detail: "No token.", hint: "Set $BINNACLE_TOKEN." }, { status: 401 });
    const { code, err } = await runPython(slowly, { env: { BINNACLE_URL: sink.url, BINNACLE_SPOOL: spool } });
    expect(code).toBe(0);
    expect(err).toContain("Set $BINNACLE_TOKEN.");
    expect(spooledRecords(spool).map(({ metrics }) => metrics["i"])).toEqual([0, 1, 2]);
  });

  test("a repetition does not make a record twice: an answer that was lost", async () => {
    let drop = true;
    sink.answer = (_, path, body) => {
      if (!path.endsWith("/records") || !drop) return undefined;
      drop = false;
      sink.answer = undefined;
      // Taken, but the answer does not arrive.
      return fetch(`${sink.url}${path}`, { method: "POST", body: JSON.stringify(body) }).then(() =>
        Response.json({}, { status: 503 }),
      );
    };
    await python(slowly, { env: { BINNACLE_URL: sink.url, BINNACLE_SPOOL: spool } });
    expect(itemsAt().map(({ metrics }) => metrics["i"])).toEqual([0, 1, 2]);
  });
});

test("the admin's token stays on this machine, and does not even travel on it", async () => {
  const tokens: (string | null)[] = [];
  const server = Bun.serve({
    port: 0,
    fetch(request) {
      tokens.push(request.headers.get("authorization"));
      return new Response("{}", { status: 500 });
    },
  });
  writeFileSync(join(folder, "token"), `bnc_admin_${"a".repeat(64)}\n`);
  const env = { BINNACLE_DATA: folder, BINNACLE_SPOOL: spool };
  await python(`import binnacle\nbinnacle.log({"a": 1})`, {
    env: { ...env, BINNACLE_URL: `http://127.0.0.1:${server.port}` },
  });
  expect(tokens[0]).toMatch(/^Bearer bnc_write_[0-9a-f]{64}$/);
  expect(
    await python(`from binnacle._place import find_collector\nprint(find_collector())`, {
      env: { ...env, BINNACLE_URL: "http://example.org" },
    }),
  ).toBe("('http://example.org', None)\n");
  await server.stop(true);
});
