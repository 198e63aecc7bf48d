/** A collector and its FedML platform, each a process, killed in turn while it is written to. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { remove, startBinary, temporaryFolder, type RunningBinary } from "./helpers/binary.ts";
import { startChild } from "./helpers/child.ts";
import { until } from "./helpers/relay.ts";
import type { LogPage } from "../src/log/schema.ts";
import type { RelayList } from "../src/relay/schema.ts";

const KILLS = Number(process.env.FEDML_RELAY_KILLS ?? 6);
const RUN = "123456789012345";
/** Records of one batch of a client; lines as well. */
const BATCH = 50;

test("whichever of both is killed, nothing is lost, and little comes twice", async () => {
  const here = temporaryFolder();
  const there = temporaryFolder();
  const main = join(import.meta.dirname, "../src/cli/main.ts");
  const start = (port = 0) =>
    startBinary({
      dataDir: there,
      program: [process.execPath, main],
      args: ["--port", String(port), "--fedml", "open", "--gpu", "off"],
    });
  let platform: RunningBinary = await start();
  const port = Number(new URL(platform.url).port);
  let collector = await startChild(here, { relays: true });
  const relay = async () =>
    ((await (await collector.request("/relays")).json()) as RelayList).relays.find(() => true)!;
  const wake = () => collector.request("/relays/fedml/retry", {}).catch(() => {});
  let seq = 0;
  /** As a client does: what got no answer is sent again. */
  async function write(): Promise<void> {
    const values = Array.from({ length: BATCH }, (_, i) => BATCH * seq + i);
    for (;;) {
      const answers = await Promise.all([
        collector.request(`/runs/${RUN}/records`, {
          client: "c",
          seq: seq + 1,
          items: values.map((loss) => ({ metrics: { loss } })),
        }),
        collector.request(`/runs/${RUN}/logs`, {
          client: "l",
          seq: seq + 1,
          items: values.map((value) => ({ text: `line ${value}` })),
        }),
      ]).catch(() => undefined);
      if (answers?.every(({ ok }) => ok)) break;
    }
    seq++;
  }
  try {
    expect(
      (await collector.request("/relays", { name: "fedml", url: `fedml+http://127.0.0.1:${port}` })).status,
    ).toBeLessThan(300);
    await collector.request("/runs", { id: RUN, writer: { client: "c", role: "client" } });
    for (let kill = 0; kill < KILLS; kill++) {
      // Some of it has arrived, some has not.
      for (let i = 0; i < 10; i++) await write();
      const before = (await relay()).acked;
      await wake();
      const writing = write();
      if (kill % 2 === 0) {
        await until(relay, ({ acked }) => acked > before || kill === 0);
        platform.process.kill("SIGKILL");
        await platform.process.exited;
        await writing;
        platform = await start(port);
      } else {
        await writing;
        await collector.kill();
        collector = await startChild(here, { relays: true });
      }
    }
    await until(
      async () => {
        await wake();
        return relay();
      },
      ({ state, backlog }) => state === "idle" && backlog.entries === 0,
      60_000,
    );
    const all = Array.from({ length: BATCH * seq }, (_, i) => i);
    const { points } = (await (
      await platform.request(`/api/v1/runs/${RUN}/points?key=loss&limit=100000`)
    ).json()) as { points: [number, number][] };
    const values = points.map(([, value]) => value);
    const arrived = new Set(values);
    expect(all.filter((value) => !arrived.has(value))).toEqual([]);
    const lines: string[] = [];
    for (let after: number | null = 0; after !== null;) {
      const path = `/api/v1/runs/${RUN}/logs?limit=10000&after=${after}`;
      const page = (await (await platform.request(path)).json()) as LogPage;
      lines.push(...page.lines.map(({ text }) => text));
      after = page.next;
    }
    const texts = new Set(lines);
    expect(all.filter((value) => !texts.has(`line ${value}`))).toEqual([]);
    // What one kill found under way: a piece of the journal, at most.
    const most = KILLS * 5 * BATCH;
    console.log(
      `${values.length - all.length} of ${all.length} records came twice, ${lines.length - all.length} lines`,
    );
    expect(values.length - all.length).toBeLessThanOrEqual(most);
    expect(lines.length - all.length).toBeLessThanOrEqual(most);
  } finally {
    platform.process.kill("SIGKILL");
    await collector.kill();
    await platform.process.exited;
    remove(here, there);
  }
}, 180_000);
