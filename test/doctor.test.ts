import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { createHash, randomBytes } from "node:crypto";
import {
  chmodSync,
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Check, Examination } from "../src/doctor/schema.ts";
import { createTestCollector } from "./helpers/collector.ts";
import { runCli, startServer, type TestServer } from "./helpers/cli.ts";

// Processes of their own, on a machine that may be busy.
setDefaultTimeout(60_000);

const folder = mkdtempSync(join(tmpdir(), "binnacle-doctor-"));
let server: TestServer;
beforeAll(async () => {
  server = await startServer();
});
afterAll(async () => {
  await server.close();
  rmSync(folder, { recursive: true, force: true });
});

interface Found extends Examination {
  code: number;
  ok: boolean;
  of(name: Check["name"]): Check;
}

async function doctor(on: TestServer, ...flags: string[]): Promise<Found> {
  const { code, stdout, stderr } = await on.cli("doctor", "--json", ...flags);
  expect(stderr).toBe("");
  const found = JSON.parse(stdout) as Examination & { ok: boolean };
  return { ...found, code, of: (name) => found.checks.find((check) => check.name === name)! };
}

const digestOf = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
const blobOf = ({ dataDir }: TestServer, bytes: Uint8Array) => {
  const sha256 = digestOf(bytes);
  return join(dataDir, "blobs", sha256.slice(0, 2), sha256.slice(2));
};

function overwrite(path: string, at: number, bytes: Uint8Array): void {
  const file = openSync(path, "r+");
  writeSync(file, bytes, 0, bytes.length, at);
  closeSync(file);
}

describe("a collector that is well", () => {
  test("is found to be so, all of it looked through", async () => {
    writeFileSync(join(folder, "model.bin"), randomBytes(300_000));
    writeFileSync(join(folder, "small.json"), "{}");
    await server.json("model", "put", "sound", folder, "--json");
    const found = await doctor(server);
    expect({ code: found.code, ok: found.ok, damaged: found.damaged }).toEqual({
      code: 0,
      ok: true,
      damaged: [],
    });
    expect(found.checks.map(({ name }) => name)).toEqual([
      "collector",
      "folder",
      "disk",
      "database",
      "files",
      "gpus",
      "clock",
      "fedml",
    ]);
    for (const name of ["collector", "folder", "database", "files", "clock"] as const)
      expect(found.of(name)).toMatchObject({ status: "ok", advice: null });
    expect(found.of("files").text).toContain("2 files");
  });

  test("is looked at in no time with --quick, which says what it left out", async () => {
    const found = await doctor(server, "--quick");
    expect(found.code).toBe(0);
    expect(found.of("database").status).toBe("unknown");
    expect(found.of("files").status).toBe("unknown");
    expect(found.of("folder").status).toBe("ok");
  });

  test("shows it only to its admin", async () => {
    const token = (await server.cli("token", "--scope", "write")).stdout.trim();
    const { code, stderr } = await runCli(["doctor"], {
      env: { BINNACLE_URL: server.url, BINNACLE_TOKEN: token },
    });
    expect(code).toBe(5);
    expect(stderr).toContain("A write token may not do this");
  });

  test("goes on taking what comes while its database is looked through", async () => {
    await server.api("/api/v1/runs", { id: "100000000000001" });
    let isOver = false;
    const examined = doctor(server).finally(() => (isOver = true));
    let seq = 0;
    while (!isOver)
      await server.api("/api/v1/runs/100000000000001/records", {
        client: "a".repeat(32),
        seq: ++seq,
        items: [{ metrics: { loss: seq } }],
      });
    const found = await examined;
    expect(found.of("database")).toMatchObject({ status: "ok" });
    expect(await server.api("/api/v1/runs/100000000000001")).toMatchObject({ last_step: seq - 1 });
  });
});

describe("damage", () => {
  test("of a large file is named with where it stands, and mended by putting that file again", async () => {
    const bytes = randomBytes(300_000);
    const file = join(folder, "weights.bin");
    writeFileSync(file, bytes);
    await server.json("model", "put", "digits", file, "--json");
    overwrite(blobOf(server, bytes), 150_000, Buffer.from("rot"));

    const found = await doctor(server);
    expect(found.code).toBe(1);
    expect(found.damaged).toEqual([
      {
        sha256: digestOf(bytes),
        size: bytes.length,
        places: [{ kind: "model", name: "digits", version: "v1", path: "weights.bin" }],
      },
    ]);
    expect(found.of("files").advice).toContain("binnacle model put");
    const { stdout, code } = await server.cli("doctor");
    expect(code).toBe(1);
    expect(stdout).toContain("PROBLEM  files");
    expect(stdout).toContain("model digits:v1 weights.bin");

    expect(await server.json("model", "put", "digits", file, "--json")).toMatchObject({
      version: "v1",
      is_new: false,
      sent: bytes.length,
    });
    expect((await doctor(server)).damaged).toEqual([]);
  });

  test("of a file that is gone is found as well, and mended", async () => {
    const bytes = randomBytes(100_000);
    const file = join(folder, "gone.bin");
    writeFileSync(file, bytes);
    await server.json("artifact", "put", "gone", file, "--json");
    rmSync(blobOf(server, bytes));
    expect((await doctor(server)).damaged).toMatchObject([{ sha256: digestOf(bytes) }]);
    await server.json("artifact", "put", "gone", file, "--json");
    expect((await doctor(server)).ok).toBe(true);
  });

  test("of a small file, which lies in the database, is found and mended", async () => {
    const { collector, close } = createTestCollector();
    const bytes = Buffer.from("small and sound");
    const sha256 = digestOf(bytes);
    collector.blobs.putSmall([{ sha256, bytes }]);
    collector.connection
      .prepare("UPDATE blob SET data = ? WHERE sha256 = ?")
      .run(Buffer.from("rotten"), sha256);
    expect(await collector.blobs.verify()).toEqual([sha256]);
    expect(collector.blobs.missing([sha256])).toEqual([sha256]);
    collector.blobs.putSmall([{ sha256, bytes }]);
    expect(collector.blobs.missing([sha256])).toEqual([]);
    expect(await collector.blobs.verify()).toEqual([]);
    await close();
  });

  test("of the database is found", async () => {
    const own = await startServer();
    try {
      await own.api("/api/v1/runs", { id: "100000000000002" });
      for (let seq = 1; seq <= 20; seq++)
        await own.api("/api/v1/runs/100000000000002/logs", {
          client: "b".repeat(32),
          seq,
          items: Array.from({ length: 200 }, () => ({
            text: randomBytes(100).toString("hex"),
            stream: "stdout",
            time: Date.now(),
          })),
        });
      // Brings everything into the file.
      expect((await doctor(own)).of("database").status).toBe("ok");
      const path = join(own.dataDir, "binnacle.db");
      const pages = Math.floor(statSync(path).size / 4096);
      expect(pages).toBeGreaterThan(20);
      for (let page = Math.floor(pages / 2); page < pages; page++)
        overwrite(path, page * 4096, Buffer.alloc(4096, 0xff));
      const found = await doctor(own);
      expect({ code: found.code, status: found.of("database").status }).toEqual({
        code: 1,
        status: "problem",
      });
      expect(found.of("database").advice).toContain("backup");
      // No process of its own is left, and no folder of a misread name.
      expect(readdirSync(own.dataDir).filter((name) => name.startsWith("file:"))).toEqual([]);
    } finally {
      await own.close();
    }
  });

  test("of the folder's modes is a problem with the command that mends it", async () => {
    const own = await startServer();
    try {
      const token = join(own.dataDir, "token");
      chmodSync(token, 0o644);
      const found = await doctor(own, "--quick");
      expect(found.code).toBe(1);
      expect(found.of("folder")).toMatchObject({ status: "problem" });
      expect(found.of("folder").text).toContain("mode 644");
      expect(found.of("folder").advice).toContain(`chmod 600 ${token}`);
      chmodSync(token, 0o600);
      expect((await doctor(own, "--quick")).code).toBe(0);
    } finally {
      await own.close();
    }
  });
});

describe("without a collector", () => {
  test("it looks at the folder, and says how to start one", async () => {
    const own = await startServer();
    await own.kill("SIGKILL");
    try {
      const found = await doctor(own);
      expect(found.code).toBe(4);
      expect(found.checks.map(({ name, status }) => [name, status])).toEqual([
        ["collector", "problem"],
        ["folder", "ok"],
        ["disk", found.of("disk").status],
      ]);
      expect(found.of("collector").advice).toContain("binnacle start");
      expect(found.of("collector").advice).toContain("nothing it had accepted is lost");
      chmodSync(own.dataDir, 0o755);
      const { stdout, code } = await own.cli("doctor");
      expect(code).toBe(4);
      expect(stdout).toContain(`chmod 700 ${own.dataDir}`);
    } finally {
      await own.close();
    }
  });

  test("it does not take the folder here for that of another machine", async () => {
    const { code, stdout } = await runCli(["doctor", "--url", "http://192.0.2.1:1", "--json"], {
      env: { BINNACLE_DATA: server.dataDir },
    });
    expect(code).toBe(4);
    expect((JSON.parse(stdout) as Examination).checks.map(({ name }) => name)).toEqual(["collector"]);
  });
});

test("a second examination waits for the first, and one that nobody waits for any more ends", async () => {
  const own = createTestCollector();
  const ask = () => own.request("/api/v1/doctor", { method: "POST", body: {} });
  const first = await ask();
  const second = await ask();
  expect(second.status).toBe(503);
  await first.body!.cancel();
  await Bun.sleep(100);
  const third = await ask();
  expect(third.status).toBe(200);
  expect(await third.text()).toContain('"examination"');
  await own.close();
});

test("what FedML's clients sent wrong is told, with what to do", async () => {
  await fetch(`${server.url}/fedml/nobody-00000000000000000000000000000000/fedmlOpsServer/configs/fetch`, {
    method: "POST",
  });
  const { of } = await doctor(server);
  expect(of("fedml")).toMatchObject({
    status: "warning",
    text: expect.stringContaining("1 × requests to addresses whose secret is none of ours"),
    advice: expect.stringContaining("binnacle fedml env"),
  });
});

test("a clock that was set back is told", async () => {
  let time = Date.now();
  const own = createTestCollector({ now: () => time });
  await own.json("/api/v1/runs", { body: { id: "100000000000003" } });
  time -= 3_600_000;
  const response = await own.request("/api/v1/doctor", { body: { quick: true } });
  const { examination } = JSON.parse((await response.text()).trim().split("\n").at(-1)!) as {
    examination: Examination;
  };
  expect(examination.checks.find(({ name }) => name === "clock")).toMatchObject({ status: "warning" });
  await own.close();
});
