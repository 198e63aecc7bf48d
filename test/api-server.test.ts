import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawn } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { connect, createServer } from "node:net";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Run } from "../src/run/schema.ts";
import { binaryForAnyone, startBinary, type RunningBinary } from "./helpers/binary.ts";
import { createTestCollector } from "./helpers/collector.ts";
import { readEvents } from "./helpers/events.ts";

const program = [process.execPath, join(import.meta.dirname, "../src/cli/main.ts")];
const folders: string[] = [];

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), "binnacle-test-"));
  folders.push(path);
  return path;
}

const start = (args: string[] = [], dataDir = folder(), env: Record<string, string> = {}) =>
  startBinary({ dataDir, args, env, program, cwd: tmpdir() });

afterAll(() => {
  for (const path of folders) rmSync(path, { recursive: true, force: true });
});

/** Another user may not be let into the checkout, let alone the Bun in it. */
function runnableByAnyone(): string {
  const { path, folder: place } = binaryForAnyone();
  folders.push(place);
  return path;
}

/** Runs `start` where it is to fail. */
async function startFails(args: string[], env: Record<string, string> = {}, uid?: number) {
  const [file, ...first] = uid === undefined ? program : [runnableByAnyone()];
  const child = spawn(file!, [...first, "start", ...args], {
    env: { PATH: process.env["PATH"], BINNACLE_DATA: folder(), ...env },
    stdio: ["ignore", "pipe", "pipe"],
    ...(uid !== undefined && { uid, gid: uid }),
  });
  let text = "";
  child.stdout.on("data", (chunk) => (text += chunk));
  child.stderr.on("data", (chunk) => (text += chunk));
  const [code] = await once(child, "close");
  return { code: code as number, text: text.replace(/^binnacle: running as root.*\n/m, "") };
}

/** Sends bytes as they are, and reads until the other end closes. */
async function raw(url: string, text: string): Promise<string> {
  const { port } = new URL(url);
  const socket = connect(Number(port), "127.0.0.1");
  socket.end(text);
  let answer = "";
  socket.on("data", (chunk) => (answer += chunk));
  socket.on("error", () => {});
  await once(socket, "close");
  return answer;
}

describe("a running collector", () => {
  let at: RunningBinary;
  beforeAll(async () => {
    at = await start();
    await at.request("/api/v1/runs", { id: "1" });
  });
  afterAll(() => at.stop());
  const authorized = () => ({ authorization: `Bearer ${at.token}` });

  test("its files are for its user alone", () => {
    const dataDir = folders.at(0)!;
    for (const [name, mode] of [
      [".", 0o700],
      ["token", 0o600],
      ["collector.json", 0o600],
      ["binnacle.db", 0o600],
    ] as const)
      expect(statSync(join(dataDir, name)).mode & 0o777, name).toBe(mode);
    const file = JSON.parse(readFileSync(join(dataDir, "collector.json"), "utf8"));
    expect(file).toMatchObject({ url: at.url, pid: at.process.pid, version: expect.any(String) });
  });

  test("the printed link signs a browser in, once", async () => {
    const link = /Dashboard: (\S+)/.exec(at.output())![1]!;
    const first = await fetch(link, { redirect: "manual" });
    expect(first.status).toBe(303);
    const cookie = first.headers.get("set-cookie")!.split(";")[0]!;
    expect(cookie).toStartWith(`binnacle_${new URL(at.url).port}=`);
    expect((await fetch(`${at.url}/api/v1/runs`, { headers: { cookie } })).status).toBe(200);
    expect((await fetch(link, { redirect: "manual" })).status).toBe(401);
  });

  const HOSTILE = [
    "/../../etc/passwd",
    "/api/v1/runs/../../../etc/passwd",
    "/api/v1/runs/..%2f..%2fetc%2fpasswd",
    "/api/v1/runs/%2e%2e/%2e%2e/etc/passwd",
    "/api/v1/runs/..%252f..%252fetc",
    "/api/v1/runs/%00",
    "/api/v1/runs/1%00.json",
    "/api/v1/runs/1;x=/../../etc",
    "/api/v1/runs/..;/1",
    "/api/v1/runs/%5c..%5cetc",
    "/api/v1/runs/..\\..\\etc",
    "/api/v1//runs",
    "//api/v1/runs",
    "/api/v1/runs//1",
    "/api/v1/runs/%ef%bc%8f..",
    "/api/v1/runs/\u2215etc",
    "/api/v1/runs/%c0%ae%c0%ae/",
    "/api/v1/runs/%",
    "/assets/../../package.json",
    "/assets/%2e%2e%2fpackage.json",
    "/assets/..%5cpackage.json",
    "/python/../token",
    "/python/%2e%2e/token",
    "/python/..%2f..%2ftoken",
    "/healthz/../api/v1/runs",
    "/healthz/%2e%2e/api/v1/runs",
    "/assets/../api/v1/runs",
  ];
  for (const path of HOSTILE)
    test(`GET ${path} gives nothing away`, async () => {
      for (const authorization of ["", `Authorization: Bearer ${at.token}\r\n`]) {
        const answer = await raw(
          at.url,
          `GET ${path} HTTP/1.1\r\nHost: localhost\r\n${authorization}Connection: close\r\n\r\n`,
        );
        expect(answer).not.toMatch(/root:|bnc_admin|"name": "binnacle"/);
        // What the server itself makes of `..` is another path of ours, which then wants its token.
        if (authorization === "") expect(answer, answer).toMatch(/^HTTP\/1\.1 4\d\d /);
        else expect(answer, answer).not.toMatch(/^HTTP\/1\.1 5/);
      }
    });

  test("whatever the request line and headers say, a foreign host gets nothing", async () => {
    const head = `Authorization: Bearer ${at.token}\r\nConnection: close\r\n`;
    for (const request of [
      `GET /api/v1/runs HTTP/1.1\r\nHost: evil.example\r\n${head}\r\n`,
      `GET http://evil.example/api/v1/runs HTTP/1.1\r\nHost: evil.example\r\n${head}\r\n`,
      `GET http://localhost/api/v1/runs HTTP/1.1\r\nHost: evil.example\r\n${head}\r\n`,
      `GET /api/v1/runs HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n${head}\r\n`,
      `GET /api/v1/runs HTTP/1.1\r\nHost:\r\n${head}\r\n`,
      `GET /api/v1/runs HTTP/1.1\r\n${head}\r\n`,
      `GET /api/v1/runs HTTP/1.1\r\nHost: localhost evil.example\r\n${head}\r\n`,
      `GET /api/v1/runs HTTP/1.1\r\nHost: localhost:7070:80\r\n${head}\r\n`,
      `GET /api/v1/runs HTTP/1.1\r\nHost: 0.0.0.0\r\n${head}\r\n`,
    ]) {
      const answer = await raw(at.url, request);
      expect(answer.split("\r\n")[0], request).toMatch(/^HTTP\/1\.1 4\d\d /);
    }
  });

  test("a body is framed one way: with two lengths, or a length and chunks, nothing comes in", async () => {
    const body = JSON.stringify({ id: "smuggled" });
    for (const framing of [
      `Content-Length: ${body.length}\r\nContent-Length: 5`,
      `Content-Length: 5\r\nTransfer-Encoding: chunked`,
      `Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\nContent-Length: ${body.length}`,
      `Content-Length: -1`,
      `Content-Length: 1e2`,
    ])
      await raw(
        at.url,
        `POST /api/v1/runs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${at.token}\r\n` +
          `Content-Type: application/json\r\n${framing}\r\nConnection: close\r\n\r\n${body}`,
      );
    expect((await fetch(`${at.url}/api/v1/runs/smuggled`, { headers: authorized() })).status).toBe(404);
  });

  test("100 MB: the client hears 413, with its length given and without", async () => {
    const bytes = new Uint8Array(100 * 1024 ** 2).fill(0x20);
    for (const body of [bytes, new Blob([bytes]).stream()]) {
      const response = await fetch(`${at.url}/api/v1/runs/1/records`, {
        method: "POST",
        headers: { ...authorized(), "content-type": "application/json" },
        body,
      });
      expect(response.status).toBe(413);
      expect(((await response.json()) as { hint: string }).hint).toBe("Send smaller batches.");
    }
    expect((await fetch(`${at.url}/healthz`)).status).toBe(200);
  }, 20_000);

  test("500 connections that say nothing don't keep others out", async () => {
    const { port } = new URL(at.url);
    const sockets = Array.from({ length: 500 }, () =>
      connect(Number(port), "127.0.0.1").on("error", () => {}),
    );
    await Promise.all(sockets.map((socket) => once(socket, "connect")));
    for (const socket of sockets) socket.write("GET /api/v1/runs HTTP/1.1\r\nHost: loc");
    expect((await fetch(`${at.url}/healthz`)).status).toBe(200);
    for (const socket of sockets) socket.destroy();
  });

  test("senders that go away in the middle of a body leave no trace", async () => {
    const { port } = new URL(at.url);
    const before = at.output();
    for (let i = 0; i < 40; i++) {
      const socket = connect(Number(port), "127.0.0.1").on("error", () => {});
      const framing = i % 2 === 0 ? "Content-Length: 50000" : "Transfer-Encoding: chunked";
      const encoding = i % 4 < 2 ? "" : "Content-Encoding: gzip\r\n";
      socket.write(
        `POST /api/v1/runs/1/records HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${at.token}\r\n` +
          `Content-Type: application/json\r\n${encoding}${framing}\r\n\r\n5\r\n{"cli\r\n`,
      );
      await Bun.sleep(5);
      socket.destroy();
    }
    expect((await fetch(`${at.url}/healthz`)).status).toBe(200);
    await Bun.sleep(200);
    expect(at.output()).toBe(before);
  });

  test("a stream outlives the time limit of ordinary requests, and ends with its reader", async () => {
    const response = await fetch(`${at.url}/api/v1/live?run=1`, { headers: authorized() });
    const reader = readEvents(response);
    await reader.until("ready");
    await Bun.sleep(17_000);
    await at.request("/api/v1/runs/1/logs", { client: "c", seq: 1, items: [{ text: "still here" }] });
    expect((await reader.until("log")).json.lines[0].text).toBe("still here");
    await reader.close();
  }, 30_000);
});

describe("ending", () => {
  for (const signal of ["SIGTERM", "SIGINT"] as const)
    test(`${signal}: streams end, what was accepted is kept, exit code 0`, async () => {
      const dataDir = folder();
      const at = await start([], dataDir);
      const headers = { authorization: `Bearer ${at.token}` };
      await at.request("/api/v1/runs", { id: "1", writer: { client: "c" } });
      const live = readEvents(await fetch(`${at.url}/api/v1/live?run=1`, { headers }));
      await live.until("ready");
      const heartbeat = readEvents(await fetch(`${at.url}/api/v1/runs/1/heartbeat?client=c`, { headers }));
      const ends = Promise.all([live.ended(), heartbeat.ended()]);
      const began = performance.now();
      at.process.kill(signal);
      await ends;
      expect(await at.process.exited).toBe(0);
      expect(performance.now() - began).toBeLessThan(3000);
      expect(existsSync(join(dataDir, "collector.json"))).toBe(false);
      expect(existsSync(join(dataDir, "binnacle.db-wal"))).toBe(false);
      const again = createTestCollector({ dataDir });
      expect((await again.json("/api/v1/runs/1")).status).toBe("RUNNING");
      await again.close();
    });

  test("a request to shut down is taken from this machine, by the admin", async () => {
    const at = await start();
    const response = await at.request("/api/v1/shutdown", {});
    expect(await response.json()).toEqual({ status: "stopping" });
    expect(await at.process.exited).toBe(0);
    const other = createTestCollector();
    for (const remote of ["10.0.0.1", "::ffff:192.168.0.1", undefined]) {
      const init = { method: "POST", headers: { authorization: `Bearer ${other.trust.tokens.admin}` } };
      expect((await other.app.request("/api/v1/shutdown", init, { remote })).status).toBe(403);
    }
    await other.close();
  });
});

describe("start refuses, in one line that says what to do", () => {
  const f = (
    name: string,
    attempt: () => Promise<{ code: number; text: string }>,
    code: number,
    text: RegExp,
  ) =>
    test(name, async () => {
      const failed = await attempt();
      expect(failed.text).toMatch(text);
      expect(failed.text.trim().split("\n")).toHaveLength(1);
      expect(failed.code).toBe(code);
    });

  f(
    "a second collector on the same folder names the first",
    async () => {
      const dataDir = folder();
      const first = await start([], dataDir);
      const second = await startFails(["--port", "0", "--data", dataDir]);
      expect(second.text).toContain(`Process ${first.process.pid} at ${first.url} has the data folder`);
      expect((await fetch(`${first.url}/healthz`)).status).toBe(200);
      await first.stop();
      return second;
    },
    5,
    /binnacle stop/,
  );
  f(
    "a taken port",
    async () => {
      const server = createServer().listen(0, "127.0.0.1");
      await once(server, "listening");
      const { port } = server.address() as { port: number };
      const failed = await startFails(["--port", String(port)]);
      server.close();
      return failed;
    },
    5,
    /Port \d+ on 127\.0\.0\.1 is taken.*--port/,
  );
  f(
    "a port that another collector has",
    async () => {
      const first = await start();
      const failed = await startFails(["--port", new URL(first.url).port]);
      await first.stop();
      return failed;
    },
    5,
    /Port \d+ on 127\.0\.0\.1 is taken.*--port/,
  );
  f(
    "a data folder that is a file",
    async () => {
      const file = join(folder(), "file");
      writeFileSync(file, "");
      return startFails(["--port", "0", "--data", file]);
    },
    5,
    /can't be written.*--data/,
  );
  f(
    "a read-only folder",
    async () => {
      const dataDir = folder();
      chmodSync(dataDir, 0o555);
      // Root writes anywhere: somebody else tries.
      return startFails(["--port", "0", "--data", dataDir], {}, process.getuid!() === 0 ? 65_534 : undefined);
    },
    5,
    /can't be written.*--data/,
  );
  f(
    "a database of a newer version",
    async () => {
      const dataDir = folder();
      const at = createTestCollector({ dataDir });
      at.collector.connection.exec(
        "INSERT INTO migration SELECT max(position) + 1, '9999_future', '00' FROM migration",
      );
      await at.collector.close();
      return startFails(["--port", "0", "--data", dataDir]);
    },
    5,
    /newer binnacle.*9999_future/,
  );
  f(
    "a database that is none",
    async () => {
      const dataDir = folder();
      writeFileSync(join(dataDir, "binnacle.db"), "certainly no database ".repeat(1000));
      return startFails(["--port", "0", "--data", dataDir]);
    },
    1,
    /damaged.*backup/,
  );
  f("another address without TLS", () => startFails(["--host", "0.0.0.0"]), 2, /--tls-cert.*--insecure-http/);
  f(
    "an address that is not ours",
    () => startFails(["--host", "192.0.2.1", "--port", "0", "--insecure-http"]),
    2,
    /Can't listen on 192\.0\.2\.1/,
  );
  f("half of TLS", () => startFails(["--tls-cert", "x"]), 2, /--tls-key/);
  f("a port that is none", () => startFails(["--port", "seven"]), 2, /--port wants a port number/);
  f("a size that is none", () => startFails(["--keep-bytes", "much"]), 2, /--keep-bytes wants a size/);
  f(
    "a host name with a port",
    () => startFails(["--allow-host", "a:80"]),
    2,
    /--allow-host wants a host name/,
  );
});

test("with --insecure-http and --allow-host it answers to that name, and still wants the token", async () => {
  const at = await start(["--host", "0.0.0.0", "--insecure-http", "--allow-host", "gpu1"]);
  const ask = (host: string, authorization?: string) =>
    fetch(`${at.url}/api/v1/runs`, { headers: { host, ...(authorization && { authorization }) } });
  expect((await ask("gpu1:7070", `Bearer ${at.token}`)).status).toBe(200);
  expect((await ask("gpu1:7070")).status).toBe(401);
  expect((await ask("0.0.0.0:7070", `Bearer ${at.token}`)).status).toBe(421);
  expect((await ask("gpu2", `Bearer ${at.token}`)).status).toBe(421);
  await at.stop();
});

test("a full disk is 507, and what comes when there is room again is kept", async () => {
  const at = createTestCollector();
  await at.json("/api/v1/runs", { body: { id: "1" } });
  const pages = (at.collector.connection.prepare("PRAGMA page_count").get() as { page_count: number })
    .page_count;
  at.collector.connection.exec(`PRAGMA max_page_count=${pages}`);
  // What compresses well would still fit into the last page.
  const text = randomBytes(25_000).toString("hex");
  const records = { client: "c", seq: 1, items: [{ metrics: { a: text } }] };
  const full = await at.request("/api/v1/runs/1/records", { body: records });
  expect(full.status).toBe(507);
  expect(((await full.json()) as { hint: string }).hint).toContain("Free some space");
  const lines = {
    client: "c",
    seq: 1,
    items: Array.from({ length: 50 }, (_, i) => ({ text: text + Math.random() + i })),
  };
  expect((await at.request("/api/v1/runs/1/logs", { body: lines })).status).toBe(507);
  at.collector.connection.exec("PRAGMA max_page_count=1000000");
  await at.collector.quota.check();
  expect((await at.request("/api/v1/runs/1/records", { body: records })).status).toBe(200);
  expect((await at.json("/api/v1/runs/1/points?key=a")).points).toHaveLength(1);
  await at.close();
});

test.skipIf(Bun.which("openssl") === null)(
  "with a certificate it speaks TLS, and cookies are for TLS alone",
  async () => {
    const dir = folder();
    const [cert, key] = [join(dir, "cert.pem"), join(dir, "key.pem")];
    const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
    Bun.spawnSync(
      [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
      ].concat(["-days", "2", "-keyout", key, "-out", cert, ...subject]),
    );
    const at = await start(["--host", "0.0.0.0", "--tls-cert", cert, "--tls-key", key]);
    const url = at.url.replace("127.0.0.1", "localhost");
    expect(url).toStartWith("https://");
    const tls = { ca: readFileSync(cert, "utf8") };
    const headers = { authorization: `Bearer ${at.token}` };
    const response = await fetch(`${url}/api/v1/sign-in-codes`, { method: "POST", headers, tls });
    const { url: link } = (await response.json()) as { url: string };
    expect(link).toStartWith("https://localhost:");
    const signedIn = await fetch(link, { redirect: "manual", tls });
    expect(signedIn.headers.get("set-cookie")).toEndWith("; Secure");
    await at.stop();
  },
);

test("a database that can't be written any more: one line on stderr, exit code 1, nothing acknowledged is lost", async () => {
  const dataDir = folder();
  // A limit on the size of files is, to SQLite, a disk that fails.
  const at = await startBinary({
    dataDir,
    program,
    cwd: tmpdir(),
    wrap: ["bash", "-c", 'ulimit -f 3000; exec "$@"', "bash"],
  });
  await at.request("/api/v1/runs", { id: "1" });
  let acknowledged = 0;
  for (let seq = 1; ; seq++) {
    const items = [{ metrics: { a: seq, text: Math.random() + "x".repeat(100_000) } }];
    const response = await at
      .request("/api/v1/runs/1/records", { client: "c", seq, items })
      .catch(() => undefined);
    if (response?.status !== 200) break;
    acknowledged = seq;
  }
  expect(await at.process.exited).toBe(1);
  expect(at.output()).toMatch(/database can no longer be trusted: .*Start again/);
  expect(acknowledged).toBeGreaterThan(3);
  const again = createTestCollector({ dataDir });
  const { points } = await again.json("/api/v1/runs/1/points?key=a");
  expect(points.slice(0, acknowledged).map(([, value]: [number, number]) => value)).toEqual(
    Array.from({ length: acknowledged }, (_, i) => i + 1),
  );
  await again.close();
}, 20_000);

test("what clients left on disk is taken in at the start", async () => {
  const dataDir = folder();
  const spool = join(dataDir, "spool");
  mkdirSync(spool);
  const lines = [
    { v: 1, path: "/api/v1/runs", body: { id: "late", name: "late", writer: { client: "c" } } },
    {
      v: 1,
      path: "/api/v1/runs/late/records",
      body: { client: "c", seq: 1, items: [{ metrics: { a: 1 } }] },
    },
    {
      v: 1,
      path: "/api/v1/runs/late/records",
      body: { client: "c", seq: 2, items: [{ metrics: { a: 2 } }] },
    },
    { v: 1, path: "/api/v1/runs/late/finish", body: { client: "c", status: "FINISHED" } },
  ];
  writeFileSync(
    join(spool, "late-c.ndjson"),
    `${lines.map((line) => JSON.stringify(line)).join("\n")}\n{"v":1,"path":"/api/v1/runs/late/rec`,
  );
  const at = await start([], dataDir);
  await eventually(async () => (await at.request("/api/v1/runs/late")).status === 200);
  await eventually(
    async () => ((await (await at.request("/api/v1/runs/late")).json()) as Run).status === "FINISHED",
  );
  const { points } = (await (await at.request("/api/v1/runs/late/points?key=a")).json()) as {
    points: unknown;
  };
  expect(points).toEqual([
    [0, 1],
    [1, 2],
  ]);
  await eventually(async () => !existsSync(join(spool, "late-c.ndjson")));
  await at.stop();
});

async function eventually(holds: () => Promise<boolean>): Promise<void> {
  for (let i = 0; i < 200; i++) {
    if (await holds()) return;
    await Bun.sleep(25);
  }
  throw new Error("it never held");
}

test("a writer killed by SIGKILL: FAILED within seconds; the same run goes on when it is resumed", async () => {
  const at = await start();
  const headers = { authorization: `Bearer ${at.token}` };
  const boot = existsSync("/proc/sys/kernel/random/boot_id")
    ? readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()
    : undefined;
  const child = spawn("sleep", ["60"]);
  await once(child, "spawn");
  const writer = { client: "c", pid: child.pid, boot };
  await at.request("/api/v1/runs", { id: "1", writer });
  const live = readEvents(await fetch(`${at.url}/api/v1/live?run=1`, { headers }));
  await live.until("ready");
  child.kill("SIGKILL");
  const { json } = await live.until("run");
  expect(json).toMatchObject({ status: "FAILED", reason: expect.stringContaining("killed, or crashed") });
  await at.request("/api/v1/runs/1/records", { client: "c", seq: 1, items: [{ metrics: { a: 1 } }] });
  expect((await live.until("run")).json).toMatchObject({ status: "RUNNING", reason: null });
  await live.close();
  await at.stop();
}, 15_000);
