import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chownSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { loudly, offline, remove, varFolder } from "./helpers/binary.ts";

const root = join(import.meta.dirname, "..");
const dockerfile = readFileSync(join(root, "Dockerfile"), "utf8");
const instructions = dockerfile
  .replace(/\\\n\s*/g, "")
  .split("\n")
  .filter((line) => /^[A-Z]/.test(line));
const having = (name: string) => instructions.filter((line) => line.startsWith(`${name} `));

describe("the Dockerfile", () => {
  test("builds with the Bun that package.json pins", () => {
    const { devDependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
    expect(having("FROM")[0]).toBe(`FROM docker.io/oven/bun:${devDependencies.bun}-slim AS build`);
  });

  test("ends as a user by number, whom Kubernetes can tell from root", () => {
    expect(having("USER").at(-1)).toMatch(/^USER [1-9]\d*:[1-9]\d*$/);
  });

  test("takes every file by name from a context that holds no more", () => {
    expect(having("ADD")).toEqual([]);
    const ignored = readFileSync(join(root, ".dockerignore"), "utf8");
    expect(ignored).toContain("\n*\n");
    const sources = having("COPY")
      .filter((line) => !line.includes("--from"))
      .flatMap((line) => line.split(" ").slice(1, -1))
      .map((path) => path.replace("./", ""));
    for (const source of sources) expect(ignored).toContain(`\n!${source}\n`);
  });

  test("names every program by its path and no shell", () => {
    for (const name of ["ENTRYPOINT", "CMD"])
      expect(having(name).at(-1)).toMatch(new RegExp(`^${name} \\[.*\\]$`));
    expect(having("HEALTHCHECK")[0]).toContain('CMD ["/usr/local/bin/binnacle"');
  });
});

const linux = process.platform === "linux" && process.getuid?.() === 0;
const missing = ["buildah", "dpkg-query", "unshare", "chroot"].filter(
  (program) => Bun.which(program) === null,
);
const skip =
  (offline || !linux || missing.length > 0) &&
  loudly(
    offline
      ? "the image is not built, only checked by reading: that needs a network"
      : linux
        ? `the image is not built, only checked by reading: no ${missing.join(", ")} (Debian: apt install buildah)`
        : "the image is not built, only checked by reading: that takes root on Linux",
  );

interface Image {
  User: string;
  Env: string[];
  Entrypoint: string[];
  Cmd: string[];
  Volumes: Record<string, object>;
  Healthcheck: { Test: string[] };
}

describe.skipIf(skip)("the image", () => {
  const place = skip ? "" : varFolder("binnacle-image-");
  let image: Image;
  let mounted = "";

  function sh(command: string, ...args: string[]): string {
    const { exitCode, stdout, stderr } = Bun.spawnSync([command, ...args], { cwd: root });
    if (exitCode !== 0) throw new Error(`${command} ${args.join(" ")}: ${stdout}${stderr}`);
    return stdout.toString().trim();
  }
  const store = ["--storage-driver", "vfs", "--root", join(place, "store"), "--runroot", join(place, "run")];
  const buildah = (...args: string[]) => sh("buildah", ...store, ...args);

  /** The two base images, made of this host's own files: there is no registry to pull them from. */
  function makeBases(): void {
    const [build, runtime] = having("FROM").map((line) => line.split(" ")[1]!);
    sh("bash", join(import.meta.dirname, "fixtures/host-rootfs.sh"), join(place, "rootfs"));
    const container = buildah("from", "scratch");
    buildah("add", "-q", container, join(place, "rootfs"), "/");
    buildah("commit", "-q", container, runtime!);
    buildah("add", "-q", container, process.execPath, "/usr/local/bin/bun");
    buildah("config", "--env", "NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt", container);
    buildah("commit", "-q", "--rm", container, build!);
  }

  beforeAll(() => {
    makeBases();
    buildah("bud", "--isolation", "chroot", "--pull-never", "--format", "docker", "-t", "binnacle", root);
    image = JSON.parse(buildah("inspect", "--type", "image", "binnacle")).Docker.config;
    mounted = buildah("mount", buildah("from", "--pull-never", "binnacle"));
  }, 180_000);
  afterAll(() => {
    if (mounted !== "") buildah("umount", "--all");
    remove(place);
  });

  /** Runs words inside the image as the runtime would: its user and environment, root read-only, /data a volume. */
  function inside(volume: string, words: string[]): Bun.Subprocess<"ignore", "pipe", "pipe"> {
    const script = `set -e
      mount --bind ${mounted} ${mounted}
      mount --bind ${volume} ${mounted}/data
      mount -t proc proc ${mounted}/proc
      mount -o remount,bind,ro ${mounted}
      exec chroot --userspec=${image.User} ${mounted} "$@"`;
    const env = Object.fromEntries(image.Env.map((line) => line.split(/=(.*)/s).slice(0, 2)));
    return Bun.spawn(["unshare", "-m", "sh", "-c", script, "sh", ...words], {
      env: { PATH: "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", ...env },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });
  }

  test("says how it wants to be run", () => {
    expect(image.User).toBe("10001:10001");
    expect(Object.keys(image.Volumes)).toEqual(["/data"]);
    expect(image.Env).toContain("NVIDIA_VISIBLE_DEVICES=all");
    expect(image.Cmd).toContain("--insecure-http");
  });

  test("holds the binary, and a data folder that belongs to its user", () => {
    expect(sh("stat", "-c", "%u:%g", join(mounted, "data"))).toBe("10001:10001");
    expect(sh("stat", "-c", "%u %a", join(mounted, "usr/local/bin/binnacle"))).toBe("0 755");
  });

  test("serves on a read-only root file system, is found healthy, and ends with 0 at SIGTERM", async () => {
    const volume = join(place, "volume");
    mkdirSync(volume, { mode: 0o700 });
    chownSync(volume, 10001, 10001);
    const check = image.Healthcheck.Test.slice(1);
    expect(
      await inside(volume, ["/usr/bin/env", "BINNACLE_URL=http://127.0.0.1:1", ...check]).exited,
    ).not.toBe(0);

    const collector = inside(volume, [...image.Entrypoint, ...image.Cmd, "--port", "0"]);
    let output = "";
    for await (const chunk of collector.stdout) {
      output += new TextDecoder().decode(chunk);
      if (/:\d+/.test(output)) break;
    }
    expect(output).toMatch(/http:\/\//);
    const health = inside(volume, check);
    expect({ exit: await health.exited, said: await new Response(health.stderr).text() }).toEqual({
      exit: 0,
      said: "",
    });
    const denied = inside(volume, ["/bin/sh", "-c", "echo x > /usr/x"]);
    expect(await denied.exited).not.toBe(0);
    expect(await new Response(denied.stderr).text()).toContain("Read-only file system");
    collector.kill("SIGTERM");
    expect(await collector.exited).toBe(0);
  }, 30_000);
});
