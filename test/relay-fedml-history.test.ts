/** What is kept of before, on its way to a FedML platform that has not got all of it when something breaks off. */
import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import type { Relay } from "../src/relay/schema.ts";
import { logFiles } from "./helpers/artifacts.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";
import { until } from "./helpers/relay.ts";
import { arrived, relayOf, startFedmlPlatform } from "./helpers/relay-fedml.ts";

setDefaultTimeout(120_000);

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

const RUN = "123456789012345";

test.each(["a restart", "a failure to read it"])(
  "%s within history loses none of the files and spans that came meanwhile, and uploads none again",
  async (what) => {
    const up = await startFedmlPlatform();
    closers.push(() => up.close());
    let at = createTestCollector({ relays: true });
    closers.push(() => at.close());
    const net = (file: string) =>
      logFiles(at.collector, RUN, "net", { kind: "model", files: { "net.pt": file } });
    const span = (seq: number, name: string) =>
      at.json(`/api/v1/runs/${RUN}/spans`, {
        body: { client: "s", seq, items: [{ name, started: 1e12 + seq, ended: 1e12 + seq + 5 }] },
      });
    await at.json("/api/v1/runs", {
      body: { id: RUN, name: "run", writer: { client: "c", role: "client" } },
    });
    await at.json(`/api/v1/runs/${RUN}/logs`, { body: { client: "l", seq: 1, items: [{ text: "hello" }] } });
    await net("early");
    await span(1, "early");
    // As time does: the journal has no more of it.
    await at.collector.tidy(10_000);
    expect(at.collector.journal.bounds().first).toBe(at.collector.journal.position().seq + 1);

    let isBroken = true;
    up.intercept = (request) =>
      isBroken && request.url.includes("logs/update") ? new Response(null, { status: 503 }) : undefined;
    await at.json<Relay>("/api/v1/relays", { body: { name: "fedml", url: up.url, from: "history" } });
    // The facts have arrived, lines have not.
    await until(
      () => relayOf(at),
      ({ error, content }) => error !== null && content!.files === 0,
    );
    await net("late");
    await span(2, "late");
    if (what === "a restart") at = await at.restart();
    else {
      // What is read next of history can't be.
      const { connection } = at.collector;
      connection.exec("ALTER TABLE artifact_version RENAME TO hidden");
      isBroken = false;
      await at.json("/api/v1/relays/fedml/retry", { method: "POST" });
      await until(
        () => relayOf(at),
        ({ error }) => /artifact_version/.test(error?.message ?? ""),
      );
      connection.exec("ALTER TABLE hidden RENAME TO artifact_version");
      at.unforeseen.length = 0;
    }
    isBroken = false;
    await at.json("/api/v1/relays/fedml/retry", { method: "POST" });
    await arrived(at);

    const there = up.at();
    const { spans } = await there.json(`/api/v1/runs/${RUN}/spans`);
    expect(spans.map(({ name }: { name: string }) => name)).toEqual(["early", "late"]);
    const { outputs } = await there.json(`/api/v1/runs/${RUN}/artifacts`);
    expect(outputs).toMatchObject([{ version: "v1" }, { version: "v2" }]);
    expect(outputs).toHaveLength(2);
    expect(up.requests.filter((path) => path.includes("/s3/"))).toHaveLength(2);
    expect((await there.json(`/api/v1/runs/${RUN}/logs`)).lines).toMatchObject([{ text: "hello" }]);
  },
);

/** An attempt has, and said so. */
const failed = (at: TestCollector) =>
  until(
    () => relayOf(at),
    ({ error }) => error?.message.includes("it broke off") === true,
  );

test.each(["at once", "after a restart"])(
  "a version that history tells is not lost where it can't be queued, and arrives %s",
  async (when) => {
    const up = await startFedmlPlatform();
    closers.push(() => up.close());
    let at = createTestCollector({ relays: true });
    closers.push(() => at.close());
    await at.json("/api/v1/runs", { body: { id: RUN } });
    await logFiles(at.collector, RUN, "net", { kind: "model", files: { "net.pt": "weights" } });
    await at.collector.tidy(10_000);
    const { connection } = at.collector;
    connection.exec(
      "CREATE TRIGGER broken BEFORE INSERT ON relay_upload BEGIN SELECT raise(ABORT, 'it broke off'); END",
    );
    await at.json("/api/v1/relays", { body: { name: "fedml", url: up.url, from: "history" } });
    await failed(at);
    connection.exec("DROP TRIGGER broken");
    if (when === "after a restart") at = await at.restart();
    await at.json("/api/v1/relays/fedml/retry", { method: "POST" });
    await arrived(at);
    const { outputs } = await up.at().json(`/api/v1/runs/${RUN}/artifacts`);
    expect(outputs).toMatchObject([{ name: "net", version: "v1" }]);
    expect(outputs).toHaveLength(1);
  },
);

test("what FedML has no words for is counted once, however often the cursor can't be moved", async () => {
  const up = await startFedmlPlatform();
  closers.push(() => up.close());
  const at = createTestCollector({ relays: true });
  closers.push(() => at.close());
  await at.json("/api/v1/runs", { body: { id: RUN } });
  await at.json("/api/v1/relays", { body: { name: "fedml", url: up.url } });
  await arrived(at);
  const { connection } = at.collector;
  connection.exec(
    "CREATE TRIGGER broken BEFORE UPDATE OF acked ON destination BEGIN SELECT raise(ABORT, 'it broke off'); END",
  );
  await at.json(`/api/v1/runs/${RUN}`, { method: "PATCH", body: { name: "other" } });
  await failed(at);
  connection.exec("DROP TRIGGER broken");
  await at.json("/api/v1/relays/fedml/retry", { method: "POST" });
  expect((await arrived(at)).dropped.records).toBe(1);
});
