import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { VERSION } from "../src/version.ts";
import {
  binaryForAnyone,
  binaryPath,
  loudly,
  postAndRead,
  readBack,
  remove,
  startBinary,
  temporaryFolder,
  varFolder,
  type RunningBinary,
  type StartOptions,
} from "./helpers/binary.ts";

const isRoot = process.getuid?.() === 0;
const isLinux = process.platform === "linux";
const folders: string[] = [];
const running: RunningBinary[] = [];

function folder(make = temporaryFolder): string {
  const path = make();
  folders.push(path);
  return path;
}

function binaryElsewhere(): string {
  const { path, folder: place } = binaryForAnyone();
  folders.push(place);
  return path;
}

async function start(options: StartOptions): Promise<RunningBinary> {
  const collector = await startBinary(options);
  running.push(collector);
  return collector;
}

beforeAll(() => void binaryPath(), 180_000);
afterEach(async () => {
  for (const collector of running.splice(0)) await collector.stop();
});
afterAll(() => remove(...folders));

/** It starts, keeps a metric, and ends well. */
async function expectWorks(collector: RunningBinary): Promise<void> {
  const health = await fetch(`${collector.url}/healthz`);
  expect(await health.json()).toMatchObject({ status: "ok", version: VERSION });
  expect(await postAndRead(collector, "100000000000001", [0.5, 0.25])).toEqual([0.5, 0.25]);
  expect(await collector.stop()).toBe(0);
}

describe("the binary", () => {
  test("is of the version that package.json names", () => {
    const { stdout } = Bun.spawnSync([binaryPath(), "version"]);
    const { version } = JSON.parse(readFileSync(join(import.meta.dirname, "../package.json"), "utf8"));
    expect(stdout.toString().trim()).toBe(`binnacle ${version}`);
    expect(VERSION).toBe(version);
  });

  test("runs from an empty folder with an empty environment, and leaves that folder and TMPDIR empty", async () => {
    const [cwd, temporary, dataDir] = [folder(), folder(), folder()];
    const collector = await start({ dataDir, cwd, env: { TMPDIR: temporary } });
    await expectWorks(collector);
    expect(readdirSync(cwd)).toEqual([]);
    expect(readdirSync(temporary)).toEqual([]);
  });

  test("keeps what it was given over a restart", async () => {
    const dataDir = folder();
    const first = await start({ dataDir });
    const values = Array.from({ length: 5000 }, (_, index) => index / 7);
    expect(await postAndRead(first, "100000000000002", values)).toEqual(values);
    expect(await first.stop()).toBe(0);
    const second = await start({ dataDir });
    expect(await readBack(second, "100000000000002")).toEqual(values);
  });

  test("called through a link named fedml takes that command's words, and needs neither -v nor -k", async () => {
    const [dataDir, cwd] = [folder(), folder()];
    const id = "100000000000009";
    const collector = await start({ dataDir });
    const post = async (path: string, body: object) =>
      expect((await collector.request(path, body)).status).toBeLessThan(300);
    await post("/api/v1/runs", { id, name: "linked" });
    const items = [{ text: "one" }, { text: "two" }];
    await post(`/api/v1/runs/${id}/logs`, { client: "a".repeat(32), seq: 1, items });
    symlinkSync(binaryPath(), join(cwd, "fedml"));
    const fedml = (command: string, words: string) => {
      const env = { PATH: `${cwd}:/usr/bin:/bin`, HOME: cwd, BINNACLE_DATA: dataDir };
      const { stdout, stderr, exitCode } = Bun.spawnSync([command, ...words.split(" ")], { cwd, env });
      expect([words, exitCode, stderr.toString()]).toEqual([words, 0, ""]);
      return stdout.toString();
    };
    // Found on the path, named by a way, and as a script of FedML's documentation has it.
    for (const [command, more] of [
      ["fedml", ""],
      ["./fedml", ""],
      ["fedml", " -v release -k none"],
    ] as const) {
      const list = fedml(command, `run list${more}`);
      expect(list).toStartWith("Found the following matched runs.\n");
      expect(list).toMatch(new RegExp(`\\| +linked +\\| +${id} +\\| +RUNNING +\\|`));
      expect(fedml(command, `run logs -rid ${id}${more}`)).toContain("All logs is as follows.\none\ntwo\n");
    }
    expect(fedml(binaryPath(), "run list")).not.toContain("Found the following");
    expect(await collector.stop()).toBe(0);
  });

  test.skipIf(!isLinux)("seals in its worker: the extra entry point is found inside", async () => {
    const collector = await start({ dataDir: folder() });
    const threads = () =>
      readdirSync(`/proc/${collector.process.pid}/task`).map((id) =>
        readFileSync(`/proc/${collector.process.pid}/task/${id}/comm`, "utf8").trim(),
      );
    expect(threads()).not.toContain("Worker");
    await postAndRead(collector, "100000000000005", Array.from({ length: 9000 }, Math.random));
    const deadline = Date.now() + 10_000;
    while (!threads().includes("Worker") && Date.now() < deadline) await Bun.sleep(20);
    // One whose program is missing is gone after some milliseconds, and the collector says so and goes on without.
    await Bun.sleep(500);
    expect(threads()).toContain("Worker");
    expect(await collector.stop()).toBe(0);
    expect(collector.output()).not.toContain("worker");
  });

  test.skipIf(!isLinux)("keeps files with its worker, and looks through its database and them", async () => {
    const [dataDir, cwd] = [folder(), folder()];
    const collector = await start({ dataDir });
    const threads = () =>
      readdirSync(`/proc/${collector.process.pid}/task`).map((id) =>
        readFileSync(`/proc/${collector.process.pid}/task/${id}/comm`, "utf8").trim(),
      );
    writeFileSync(join(cwd, "weights.bin"), crypto.getRandomValues(Buffer.alloc(65_536)));
    for (let size = 65_536; size < 20_000_000; size *= 2) {
      const bytes = readFileSync(join(cwd, "weights.bin"));
      writeFileSync(join(cwd, "weights.bin"), Buffer.concat([bytes, bytes.map((byte) => byte ^ size)]));
    }
    expect(threads()).not.toContain("Worker");
    const env = { PATH: "/usr/bin:/bin", BINNACLE_DATA: dataDir, HOME: "/nonexistent" };
    const run = (...args: string[]) => Bun.spawnSync([binaryPath(), ...args], { cwd, env });
    const put = run("model", "put", "digits", "weights.bin", "--json");
    expect(put.stderr.toString()).toBe("");
    expect(JSON.parse(put.stdout.toString())).toMatchObject({ version: "v1", size: 33_554_432 });
    // It stays for half a minute. One whose program is missing is gone at once, and the collector says so and goes on without.
    expect(threads()).toContain("Worker");
    const doctor = run("doctor", "--json");
    expect(doctor.stderr.toString()).toBe("");
    expect(JSON.parse(doctor.stdout.toString())).toMatchObject({ ok: true, damaged: [] });
    expect(JSON.parse(doctor.stdout.toString()).checks).toContainEqual(
      expect.objectContaining({ name: "database", status: "ok" }),
    );
    expect(readdirSync(cwd)).toEqual(["weights.bin"]);
    expect(await collector.stop()).toBe(0);
    expect(collector.output()).not.toContain("worker");
  });

  test("runs where HOME can't be written and TMPDIR does not exist", async () => {
    const dataDir = folder();
    await expectWorks(await start({ dataDir, env: { HOME: "/nonexistent", TMPDIR: "/nonexistent" } }));
  });

  test("neither runs nor reads what a hostile folder holds", async () => {
    const [cwd, dataDir, elsewhere] = [folder(), folder(), folder()];
    const ran = join(cwd, "ran");
    const evil = `require("node:fs").writeFileSync(${JSON.stringify(ran)}, "yes");`;
    writeFileSync(join(cwd, "evil.js"), evil);
    for (const name of ["bunfig.toml", ".bunfig.toml"])
      writeFileSync(join(cwd, name), `preload = ["./evil.js"]\n[run]\npreload = ["./evil.js"]\n`);
    for (const name of [".env", ".env.local", ".env.production", ".env.development"])
      writeFileSync(join(cwd, name), `BINNACLE_URL=http://evil.invalid\nXDG_STATE_HOME=${elsewhere}\n`);
    writeFileSync(join(cwd, "tsconfig.json"), `{"compilerOptions":{"paths":{"*":["./evil.js"]}}}`);
    writeFileSync(join(cwd, "package.json"), `{"imports":{"#x":"./evil.js"},"type":"module"}`);
    mkdirSync(join(cwd, "node_modules/libsql"), { recursive: true });
    writeFileSync(join(cwd, "node_modules/libsql/index.js"), evil);
    const collector = await start({ dataDir, cwd, env: { HOME: cwd, XDG_CONFIG_HOME: cwd } });
    await expectWorks(collector);
    expect(existsSync(ran)).toBe(false);
    // Whether another collector answers on this machine or not, it is not the one that .env names.
    const env = { PATH: "/usr/bin:/bin", HOME: folder() };
    const { stdout, stderr } = Bun.spawnSync([binaryPath(), "healthcheck"], { cwd, env });
    expect(`${stdout}${stderr}`).toContain("http://127.0.0.1:7070");
    expect(readdirSync(elsewhere)).toEqual([]);
    expect(existsSync(ran)).toBe(false);
  });
});

/** Programs that a test needs and this machine may lack. */
const lacks = (...programs: string[]) => programs.filter((program) => Bun.which(program) === null);

/** Mounts over /tmp need a mount namespace: root has one, and so has anyone where user namespaces are allowed. */
const mountable =
  isLinux &&
  lacks("unshare", "mount").length === 0 &&
  Bun.spawnSync(["unshare", ...(isRoot ? ["-m"] : ["-rm"]), "true"]).exitCode === 0;

const skipMounts =
  !mountable && loudly("a noexec or read-only /tmp needs a mount namespace, and this user may not make one");

describe.skipIf(skipMounts)("the temporary folder", () => {
  for (const flags of ["noexec", "ro"])
    test(`may be mounted ${flags}`, async () => {
      const dataDir = folder(varFolder);
      const script = `mount -t tmpfs -o ${flags} tmpfs /tmp && exec "$0" "$@"`;
      const wrap = ["unshare", isRoot ? "-m" : "-rm", "sh", "-c", script];
      await expectWorks(
        await start({ dataDir, wrap, program: [binaryElsewhere()], env: { TMPDIR: "/tmp" } }),
      );
    });

  test("a disk too small for the addon is a clear error, and is left as it was", async () => {
    const dataDir = folder(varFolder);
    const script = `mount -t tmpfs -o size=4m tmpfs ${dataDir} && "$0" "$@"; status=$?; ls -A ${dataDir}/addons; exit $status`;
    const wrap = ["unshare", isRoot ? "-m" : "-rm", "sh", "-c", script];
    const failure = await start({ dataDir, cwd: "/", wrap, program: [binaryElsewhere()] }).then(
      () => "it started",
      (error: Error) => error.message,
    );
    expect(failure).toContain("is full");
    expect(failure).not.toContain("libsql-");
  });

  test("a data folder mounted noexec is refused with what to do", async () => {
    const dataDir = folder(varFolder);
    const script = `mount -t tmpfs -o noexec tmpfs ${dataDir} && exec "$0" "$@"`;
    const wrap = ["unshare", isRoot ? "-m" : "-rm", "sh", "-c", script];
    const failure = await start({ dataDir, cwd: "/", wrap, program: [binaryElsewhere()] }).then(
      () => "it started",
      (error: Error) => error.message,
    );
    expect(failure).toContain("noexec");
    expect(failure).toContain("--data");
  });
});

const skipUser =
  (!isRoot || lacks("setpriv").length > 0) && loudly("only root can start the binary as another user");

describe.skipIf(skipUser)("another user", () => {
  test("who is nobody can run it, without a home", async () => {
    const dataDir = folder(varFolder);
    chownSync(dataDir, 65534, 65534);
    const wrap = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    const collector = await start({
      dataDir,
      wrap,
      program: [binaryElsewhere()],
      env: { HOME: "/nonexistent" },
    });
    expect(statSync(join(dataDir, "addons")).uid).toBe(65534);
    await expectWorks(collector);
  });
});

const skipChroot =
  (!isRoot || lacks("chroot", "ldd").length > 0) &&
  loudly("only root can start the binary in an empty file system");

test.skipIf(skipChroot)(
  "everything is inside: it runs where there is nothing but the C library",
  async () => {
    const place = folder(varFolder);
    const addon = join(import.meta.dirname, "../node_modules/@libsql");
    const libraries = [
      binaryPath(),
      ...readdirSync(addon).map((name) => join(addon, name, "index.node")),
    ].flatMap(
      (path) =>
        Bun.spawnSync(["ldd", path])
          .stdout.toString()
          .match(/\/\S+(?= \(0x)/g) ?? [],
    );
    for (const library of new Set(libraries)) {
      if (!existsSync(library)) continue;
      mkdirSync(join(place, dirname(library)), { recursive: true });
      copyFileSync(realpathSync(library), join(place, library));
    }
    for (const name of ["data", "proc"]) mkdirSync(join(place, name));
    cpSync(binaryPath(), join(place, "binnacle"));
    const script = `mount -t proc proc ${place}/proc && exec chroot ${place} "$0" "$@"`;
    const child = Bun.spawn(["unshare", "-m", "sh", "-c", script, "/binnacle", "start", "--port", "0"], {
      env: { BINNACLE_DATA: "/data", PATH: "/usr/sbin:/usr/bin:/sbin:/bin" },
      stdout: "pipe",
      stderr: "pipe",
    });
    let output = "";
    const link = /http:\/\/[^\s/]+:\d+/;
    const read = async (stream: ReadableStream<Uint8Array>) => {
      for await (const chunk of stream) {
        output += new TextDecoder().decode(chunk);
        if (link.test(output)) return;
      }
      throw new Error(output);
    };
    await Promise.any([read(child.stdout), read(child.stderr)]);
    const health = await fetch(`${link.exec(output)![0]}/healthz`);
    expect(await health.json()).toMatchObject({ status: "ok", version: VERSION });
    expect(readdirSync(join(place, "data/addons"))).toHaveLength(1);
    expect(readdirSync(place).sort()).toEqual(expect.arrayContaining(["binnacle", "data"]));
    expect(existsSync(join(place, "tmp"))).toBe(false);
    child.kill();
    expect(await child.exited).toBe(0);
  },
);

describe("its addon", () => {
  async function startAndStop(dataDir: string): Promise<string> {
    const collector = await start({ dataDir });
    await collector.stop();
    const [name] = readdirSync(join(dataDir, "addons"));
    return join(dataDir, "addons", name!);
  }

  test("lies in a private folder under the name of its digest", async () => {
    const dataDir = folder();
    const addon = await startAndStop(dataDir);
    expect(statSync(join(dataDir, "addons")).mode & 0o777).toBe(0o700);
    const digest = new Bun.CryptoHasher("sha256").update(readFileSync(addon)).digest("hex");
    expect(addon).toEndWith(`libsql-${digest.slice(0, 16)}.node`);
  });

  test("is written again when its content, its kind or its permissions have changed", async () => {
    const dataDir = folder();
    const addon = await startAndStop(dataDir);
    const original = readFileSync(addon);

    const tampered = Buffer.from(original);
    tampered[tampered.length - 1]! ^= 1;
    writeFileSync(addon, tampered);
    await startAndStop(dataDir);
    expect(readFileSync(addon).equals(original)).toBe(true);

    const other = join(folder(), "other.node");
    writeFileSync(other, original);
    remove(addon);
    symlinkSync(other, addon);
    await startAndStop(dataDir);
    expect(statSync(addon, { throwIfNoEntry: true }).isFile()).toBe(true);
    expect(realpathSync(addon)).toBe(
      realpathSync(join(dataDir, "addons")) + addon.slice(dirname(addon).length),
    );

    chmodSync(addon, 0o777);
    chmodSync(join(dataDir, "addons"), 0o777);
    await startAndStop(dataDir);
    expect(statSync(addon).mode & 0o022).toBe(0);
    expect(statSync(join(dataDir, "addons")).mode & 0o777).toBe(0o700);
  });

  test("of an earlier version is removed, and so is one half written", async () => {
    const dataDir = folder();
    mkdirSync(join(dataDir, "addons"), { mode: 0o700 });
    writeFileSync(join(dataDir, "addons/libsql-0000000000000000.node"), "old");
    writeFileSync(join(dataDir, "addons/libsql-1.tmp"), "half");
    await startAndStop(dataDir);
    expect(readdirSync(join(dataDir, "addons"))).toHaveLength(1);
  });

  test.skipIf(skipUser)("is not loaded from a folder that another user owns", async () => {
    const dataDir = folder();
    mkdirSync(join(dataDir, "addons"));
    chownSync(join(dataDir, "addons"), 65534, 65534);
    const failure = await start({ dataDir }).then(
      () => "it started",
      (error: Error) => error.message,
    );
    expect(failure).toContain("belongs to another user");
    expect(failure).toContain("--data");
  });
});
