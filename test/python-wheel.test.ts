import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pythonFiles, unpackPython } from "../src/client/python-files.ts";
import { buildWheel, wheelName } from "../src/client/wheel.ts";
import { VERSION } from "../src/version.ts";
import { loudly } from "./helpers/binary.ts";
import { findPythons, pythonFolder, startServer, type TestServer } from "./helpers/python.ts";

// Many processes, perhaps on a busy machine.
setDefaultTimeout(60_000);

let folder: string;
let server: TestServer;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "binnacle-wheel-"));
  server = await startServer();
});
afterAll(async () => {
  await server.remove();
  rmSync(folder, { recursive: true, force: true });
});

test("the program carries the Python files as they are in the source", () => {
  const paths = (readdirSync(pythonFolder, { recursive: true }) as string[]).filter((path) =>
    path.endsWith(".py"),
  );
  expect(Object.keys(pythonFiles)).toEqual(paths.sort());
  expect(pythonFiles["binnacle/__init__.py"]).toContain(`__version__ = "${VERSION}"`);
});

describe("the wheel", () => {
  test("is served without a token, with a page of links", async () => {
    const page = await fetch(`${server.url}/python/`);
    expect(page.status).toBe(200);
    const html = await page.text();
    expect(html).toContain(`<a href="${wheelName}">`);
    expect(html).toContain(`${server.url}/python/${wheelName}`);
    const wheel = await fetch(`${server.url}/python/${wheelName}`);
    expect(wheel.headers.get("content-type")).toBe("application/zip");
    expect(Buffer.from(await wheel.arrayBuffer()).equals(Buffer.from(buildWheel()))).toBe(true);
    const other = await fetch(`${server.url}/python/other.whl`);
    expect(other.status).toBe(404);
    expect(((await other.json()) as { hint: string }).hint).toContain(wheelName);
  });

  test("holds binnacle and not fedml, which would overwrite an installed one", async () => {
    const path = join(folder, "w.whl");
    writeFileSync(path, buildWheel());
    const list = Bun.spawnSync([
      "python3",
      "-c",
      `import sys, zipfile\nz = zipfile.ZipFile(sys.argv[1]); assert z.testzip() is None\nprint(*z.namelist(), sep="\\n")`,
      path,
    ]);
    const names = list.stdout.toString().trim().split("\n");
    expect(names).toContain("binnacle/__init__.py");
    expect(names.filter((name) => !name.startsWith("binnacle"))).toEqual([]);
  });

  test.each(findPythons(true))(
    "installs with pip and no network, and records ($version)",
    async ({ version, path }) => {
      if (Bun.spawnSync([path, "-m", "pip", "--version"]).exitCode !== 0)
        return void loudly(`${path} has no pip`);
      const target = join(folder, `site ${version}`);
      const env = {
        ...process.env,
        ...server.env,
        PIP_NO_INDEX: "1",
        PIP_DISABLE_PIP_VERSION_CHECK: "1",
        PYTHONPATH: target,
      };
      const run = (...words: string[]) => {
        const { exitCode, stdout, stderr } = Bun.spawnSync([path, ...words], { env });
        if (exitCode !== 0) throw new Error(`${words.join(" ")}: ${stdout} ${stderr}`);
        return stdout.toString();
      };
      const install = ["-m", "pip", "install", "-q", "--target", target];
      run(...install, `${server.url}/python/${wheelName}`);
      const script = `import binnacle\nrun = binnacle.init()\nrun.log({"a": 1})\nprint(run.id, binnacle.__version__, binnacle.__file__)`;
      const [id = "", installed, ...file] = run("-c", script).trim().split(" ");
      expect(installed).toBe(VERSION);
      expect(file.join(" ")).toStartWith(target);
      expect(await server.points(id, "a")).toEqual([[0, 1]]);
      // As `pip install --find-links` finds it.
      run(...install, "--upgrade", "--find-links", `${server.url}/python/`, "binnacle");
    },
  );
});

describe("the folder for PYTHONPATH", () => {
  test("is laid down once, and repaired where it is damaged", async () => {
    const data = mkdtempSync(join(folder, "data"));
    const path = unpackPython(data);
    expect(readdirSync(path).sort()).toEqual(["binnacle", "fedml"]);
    expect(unpackPython(data)).toBe(path);
    writeFileSync(join(path, "binnacle/_run.py"), "damaged");
    rmSync(join(path, "fedml"), { recursive: true });
    expect(unpackPython(data)).toBe(path);
    expect(await Bun.file(join(path, "binnacle/_run.py")).text()).toBe(pythonFiles["binnacle/_run.py"]!);
    expect(readdirSync(join(data, "python"))).toHaveLength(1);
  });
});
