import { afterAll, afterEach, beforeAll, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { createProgress } from "../src/cli/progress.ts";
import { createRetry } from "../src/client/typescript/retry.ts";
import { CollectorError } from "../src/error.ts";
import { cleanEnv, runCli } from "./helpers/cli.ts";
import { bytesOf, filesIn, makeFolder, serveFiles, type FilesServer, type Folder } from "./helpers/files.ts";

setDefaultTimeout(60_000);

const MiB = 1024 * 1024;
const main = join(import.meta.dirname, "../src/cli/main.ts");
let server: FilesServer;
let folder: Folder;

beforeAll(async () => {
  server = await serveFiles();
});
afterAll(() => server.close());
beforeEach(() => {
  folder = makeFolder();
});
afterEach(() => {
  server.intercept(undefined);
  folder.remove();
});

const env = () => ({ BINNACLE_URL: server.url, BINNACLE_TOKEN: server.connection().token });

/** What a collector without room answers. */
const full = () =>
  new Response(
    JSON.stringify({
      type: "urn:binnacle:disk-full",
      title: "Disk full",
      status: 507,
      detail: "The file was not stored: only 7 MiB of the disk are free.",
      hint: "Free some space.",
    }),
    { status: 507, headers: { "content-type": "application/problem+json" } },
  );
const WORDS =
  "binnacle: The file was not stored: only 7 MiB of the disk are free. Free some space. Waiting for room; Ctrl-C ends this, and what was sent is kept.\n";

test("a full disk is said once, and with room the upload goes on by itself", async () => {
  folder.write("big.bin", bytesOf(40 * MiB));
  let refused = 0;
  server.intercept(({ method, url }) =>
    // Other requests come through meanwhile, as they do on a disk that is almost full.
    method === "PUT" && url.includes("/chunks/") && ++refused <= 12 ? full() : undefined,
  );
  const { code, stdout, stderr } = await runCli(["model", "put", "patient", "big.bin"], {
    env: env(),
    cwd: folder.path,
  });
  expect({ code, stderr }).toEqual({ code: 0, stderr: WORDS });
  expect(stdout).toStartWith("model patient:v1 is kept: 1 file, 40.0 MiB; sent 40.0 MiB in ");
});

/** Runs a command until `isDue`, presses Ctrl-C, and says how it ended. */
async function interrupted(args: string[], isDue: () => boolean): Promise<{ code: number; stderr: string }> {
  const child = spawn(process.execPath, [main, ...args], {
    env: cleanEnv(env()),
    cwd: folder.path,
    stdio: ["ignore", "ignore", "pipe"],
  });
  let stderr = "";
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  const ended = new Promise<number>((resolve) => child.on("close", (code) => resolve(code ?? -1)));
  while (!isDue()) await Bun.sleep(5);
  child.kill("SIGINT");
  return { code: await ended, stderr };
}

test("Ctrl-C ends an upload with what to do, and the next one sends the rest", async () => {
  folder.write("big.bin", bytesOf(80 * MiB, 3));
  const { promise: held, resolve: release } = Promise.withResolvers<undefined>();
  let chunks = 0;
  server.intercept(({ method, url }) => {
    if (method !== "PUT" || !url.includes("/chunks/") || ++chunks <= 5) return undefined;
    return held.then(full);
  });
  const { code, stderr } = await interrupted(["model", "put", "cut", "big.bin"], () => chunks >= 9);
  release(undefined);
  expect(code).toBe(130);
  expect(stderr).toBe(
    "binnacle: Interrupted. Call again: what was sent is kept for a day at least, and only the rest goes.\n",
  );
  server.intercept(undefined);
  const again = await runCli(["model", "put", "cut", "big.bin", "--json"], { env: env(), cwd: folder.path });
  expect(JSON.parse(again.stdout)).toMatchObject({ version: "v1", sent: (80 - 5 * 8) * MiB });
});

test("Ctrl-C ends a download with what to do, and the next one fetches the rest", async () => {
  folder.write("in/a.bin", bytesOf(64 * MiB, 4));
  await runCli(["model", "put", "got", "in"], { env: env(), cwd: folder.path });
  const { promise: held, resolve: release } = Promise.withResolvers<undefined>();
  let isHeld = false;
  server.intercept((request) => {
    if (!request.url.includes("/file?")) return undefined;
    const bytes = bytesOf(64 * MiB, 4);
    const body = new ReadableStream({
      async start(controller) {
        controller.enqueue(bytes.subarray(0, 20 * MiB));
        isHeld = true;
        await held;
        controller.close();
      },
    });
    return new Response(body);
  });
  const arrived = () =>
    isHeld &&
    existsSync(join(folder.path, "out")) &&
    [...new Bun.Glob(".*.part").scanSync({ cwd: join(folder.path, "out"), dot: true })].some(
      (name) => Bun.file(join(folder.path, "out", name)).size === 20 * MiB,
    );
  const { code, stderr } = await interrupted(["model", "get", "got", "-o", "out"], arrived);
  release(undefined);
  expect({ code, stderr }).toEqual({
    code: 130,
    stderr: "binnacle: Interrupted. Call again: what has come is not asked for again.\n",
  });
  server.intercept(undefined);
  const args = ["model", "get", "got", "-o", "out", "--json"];
  const again = await runCli(args, { env: env(), cwd: folder.path });
  expect(JSON.parse(again.stdout)).toMatchObject({ received: 44 * MiB });
  expect(filesIn(join(folder.path, "out"))).toEqual(filesIn(join(folder.path, "in")));
});

test("who waits for room is given up by nobody; who does not, when patience ends", async () => {
  const noRoom = new CollectorError("disk-full", "no room.");
  const tries = (waitsForRoom: boolean) => {
    let left = 3;
    const retry = createRetry({ patienceMs: 0, waitsForRoom });
    return retry(async () => (left-- > 0 ? Promise.reject(noRoom) : "stored")).catch((error) => error);
  };
  // 0 ms of patience are over at once, but for a full disk they never begin.
  expect(await tries(false)).toBe(noRoom);
  expect(await tries(true)).toBe("stored");
});

test("waiting is one line: a new one each half a minute where nobody sees how long it has been", () => {
  const noRoom = new CollectorError("disk-full", "no room.");
  const away = new CollectorError("unreachable", "nobody there.");
  for (const isTTY of [true, false]) {
    let written = "";
    let time = 0;
    const stream = { isTTY, columns: 80, write: (text: string) => (written += text) };
    const progress = createProgress({ stream, program: "binnacle", unicode: true, now: () => time });
    for (; time <= 65_000; time += 500) {
      progress.waiting(noRoom);
      // Small requests come through all the time.
      progress.waiting(undefined);
      progress.show({ verb: "Sending", done: 5 * MiB, total: 10 * MiB });
    }
    progress.waiting(away);
    progress.close();
    // oxlint-disable-next-line no-control-regex
    const lines = written.replaceAll(/\r\u001b\[K[^\n\r]*(?=\r|$)/g, "").split("\n");
    const said = "no room. Waiting for room; Ctrl-C ends this, and what was sent is kept.";
    expect(lines.map((line) => line.replace("\r\u001b[K", "").replace("binnacle: ", ""))).toEqual([
      said,
      ...(isTTY
        ? []
        : ["Still waiting for room, 30 s by now. no room.", "Still waiting for room, 60 s by now. no room."]),
      "nobody there. Trying again.",
      "",
    ]);
    if (isTTY) expect(written).toContain("\r\u001b[KWaiting  50 %  5.0/10.0 MiB  for room, 65 s");
  }
});
