import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { RawMqtt } from "../helpers/mqtt.ts";
import { freePort, until } from "./server.ts";

/** Of Debian's: the broker, and libraries of it that a machine may lack. */
const PACKAGES = ["mosquitto", "libcjson1", "libwebsockets17", "libdlt2", "libwrap0", "libuv1"];

export interface Mosquitto {
  port: number;
  pid: number;
  stop(): Promise<void>;
}

/** Mosquitto without persistence and passwords; where it is not installed it is taken from Debian into a throw-away folder. */
export async function startMosquitto(): Promise<Mosquitto> {
  const folder = mkdtempSync(join(tmpdir(), "bench-mosquitto-"));
  const { program, libraries } = findMosquitto(folder);
  const port = await freePort();
  const config = join(folder, "mosquitto.conf");
  writeFileSync(
    config,
    `listener ${port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_type error\n`,
  );
  const child = spawn(program, ["-c", config], {
    stdio: ["ignore", "ignore", "inherit"],
    env: { ...process.env, LD_LIBRARY_PATH: libraries },
  });
  await until(async () => (await RawMqtt.open(port)).vanish());
  return {
    port,
    pid: child.pid!,
    async stop() {
      const gone = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGTERM");
      await gone;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function findMosquitto(folder: string): { program: string; libraries: string } {
  const installed = Bun.which("mosquitto", { PATH: `${process.env.PATH}:/usr/sbin:/usr/local/sbin` });
  if (installed) return { program: installed, libraries: process.env.LD_LIBRARY_PATH ?? "" };
  console.error("getting mosquitto from Debian …");
  execFileSync("apt-get", ["download", "-qq", ...PACKAGES], {
    cwd: folder,
    stdio: ["ignore", "ignore", "pipe"],
  });
  for (const name of readdirSync(folder))
    if (name.endsWith(".deb")) execFileSync("dpkg-deb", ["-x", join(folder, name), folder]);
  const libraries = ["usr/lib", "lib"]
    .map((path) => join(folder, path))
    .filter(existsSync)
    .flatMap((path) => [path, ...readdirSync(path).map((name) => join(path, name))]);
  return { program: join(folder, "usr/sbin/mosquitto"), libraries: libraries.join(":") };
}
