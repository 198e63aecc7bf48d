/**
 * Run in a network namespace of its own (`unshare -r -n`): a writer holds its heartbeat, the network goes and comes back.
 * Prints what became of the run as JSON.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { RunDetail } from "../../src/run/schema.ts";
import { startBinary } from "./binary.ts";

const network = (state: "up" | "down") => {
  if (Bun.spawnSync(["ip", "link", "set", "lo", state]).exitCode !== 0) throw new Error("ip failed");
};

network("up");
const dataDir = mkdtempSync(join(tmpdir(), "binnacle-cut-"));
const program = [process.execPath, join(import.meta.dirname, "../../src/cli/main.ts")];
const at = await startBinary({ dataDir, program, cwd: tmpdir() });
const get = async () => (await (await at.request("/api/v1/runs/1")).json()) as RunDetail;

await at.request("/api/v1/runs", { id: "1", writer: { client: "a" } });
const { port } = new URL(at.url);
const socket = connect(Number(port), "127.0.0.1");
socket.on("error", () => {});
socket.write(
  `GET /api/v1/runs/1/heartbeat?client=a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${at.token}\r\n\r\n`,
);
socket.resume();
await Bun.sleep(6000);
const before = await get();
network("down");
await Bun.sleep(22_000);
network("up");
const cut = await get();
let after = cut;
for (let i = 0; i < 120 && after.contact_lost !== null; i++) {
  await Bun.sleep(500);
  after = await get();
}
socket.destroy();
await at.stop();
rmSync(dataDir, { recursive: true });
const outline = ({ status, contact_lost }: RunDetail) => ({ status, contact_lost });
console.log(JSON.stringify({ before: outline(before), cut: outline(cut), after: outline(after) }));
