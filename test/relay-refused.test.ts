import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import type { Relay, RelayList } from "../src/relay/schema.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";
import { startPlatform, until } from "./helpers/relay.ts";

setDefaultTimeout(60_000);

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

const relayOf = async (at: TestCollector): Promise<Relay> =>
  ((await at.json("/api/v1/relays")) as RelayList).relays[0]!;
const arrived = (at: TestCollector) =>
  until(
    () => relayOf(at),
    ({ state, backlog }) => state === "idle" && backlog.entries === 0,
  );

async function pair() {
  const up = await startPlatform();
  closers.push(() => up.close());
  const at = createTestCollector({ relays: true });
  closers.push(() => at.close());
  const token = await up.addSource("lab");
  const add = () => at.json("/api/v1/relays", { body: { name: "up", url: up.url, token } });
  const log = (seq: number, items: object[]) =>
    at.json("/api/v1/runs/a/records", { body: { client: "c", seq, items } });
  await at.json("/api/v1/runs", { body: { id: "a", name: "a" } });
  return { up, at, add, log };
}

const page = (status: number) =>
  new Response("<html><body><h1>Bad Request</h1></body></html>", {
    status,
    headers: { "content-type": "text/html" },
  });

for (const [status, state] of [
  [400, "waiting"],
  [422, "waiting"],
  [413, "paused"],
] as const)
  for (const where of ["batches", "history"])
    test(`a proxy's own ${status} to ${where} makes no dead letter: it is said, and all of it arrives`, async () => {
      const { up, at, add, log } = await pair();
      if (where === "batches") {
        await add();
        await arrived(at);
      }
      up.intercept = (request) => (request.url.endsWith(`/${where}`) ? page(status) : undefined);
      await log(1, [{ metrics: { loss: 1 } }]);
      await log(2, [{ metrics: { loss: 2 } }]);
      if (where === "history") await at.collector.tidy(10_000);
      await add();
      const troubled = await until(
        () => relayOf(at),
        ({ error, attempts }) => error !== null && attempts > 0,
      );
      expect(troubled).toMatchObject({ state, dead_letters: 0 });
      expect(troubled.error).toMatchObject({
        message: expect.stringContaining(`answered ${status}.`),
        hint: expect.stringContaining("All data waits here."),
      });
      up.intercept = undefined;
      await at.json("/api/v1/relays/up/retry", { body: {} });
      expect(await arrived(at)).toMatchObject({ dead_letters: 0, error: null });
      const { points } = await up.at.json("/api/v1/runs/a/points?key=loss");
      expect(points.map(([, value]: [number, number]) => value)).toEqual([1, 2]);
    });

test("an error of ours that names no entry is about the request, and condemns nothing", async () => {
  const { up, at, add, log } = await pair();
  await add();
  await arrived(at);
  up.intercept = async (request) => {
    if (!request.url.endsWith("/batches")) return undefined;
    const { method, url } = request;
    const headers = new Headers(request.headers);
    headers.delete("content-digest");
    return up.at.app.fetch(new Request(url, { method, headers, body: await request.arrayBuffer() }));
  };
  await log(1, [{ metrics: { loss: 1 } }]);
  const troubled = await until(
    () => relayOf(at),
    ({ error }) => error !== null,
  );
  expect(troubled).toMatchObject({
    state: "waiting",
    dead_letters: 0,
    error: { message: "The body has no Content-Digest." },
  });
  up.intercept = undefined;
  await at.json("/api/v1/relays/up/retry", { body: {} });
  expect(await arrived(at)).toMatchObject({ dead_letters: 0 });
});

test("a greeting that was changed on its way is asked again: a byte of a nonce would have made its source a restored copy", async () => {
  const { up, at, add, log } = await pair();
  let changed = 0;
  up.intercept = async (request) => {
    if (!request.url.endsWith("/cursor") || request.method !== "POST" || changed > 0) return undefined;
    changed++;
    const text = await request.text();
    const { nonce } = JSON.parse(text) as { nonce: string };
    const other = `${nonce[0] === "0" ? "1" : "0"}${nonce.slice(1)}`;
    return up.at.app.fetch(new Request(request, { method: "POST", body: text.replaceAll(nonce, other) }));
  };
  await add();
  await log(1, [{ metrics: { loss: 1 } }]);
  const relay = await arrived(at);
  expect({ changed, epoch: relay.epoch, dead: relay.dead_letters }).toEqual({
    changed: 1,
    epoch: 1,
    dead: 0,
  });
  const { points } = await up.at.json("/api/v1/runs/a/points?key=loss");
  expect(points).toHaveLength(1);
});
