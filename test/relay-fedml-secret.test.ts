/** A FedML address may have the key to a run in it: it stands beside the database, and is shown nowhere. */
import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readRelays } from "../src/cli/relay-token.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";
import { until } from "./helpers/relay.ts";
import { arrived, relayOf, startFedmlPlatform } from "./helpers/relay-fedml.ts";

setDefaultTimeout(60_000);

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

/** A run there that has an address of its own, and a collector that is to relay to it. */
async function pair() {
  const up = await startFedmlPlatform({ fedml: "on" });
  closers.push(() => up.close());
  await up.at().json("/api/v1/runs", { body: { id: "there", name: "there" } });
  const secret = up.at().fedml!.keys.secretOf({ run: "there" });
  const here = { at: createTestCollector({ relays: true }) };
  closers.push(() => here.at.close());
  return {
    up,
    secret,
    whole: `${up.url}/fedml/${secret}`,
    shown: `${up.url}/fedml/…`,
    here,
    file: join(here.at.dataDir, "relays.json"),
  };
}

const add = (at: TestCollector, url: string, name = "other") =>
  at.request("/api/v1/relays", { body: { name, url } });
let seq = 0;
const record = (at: TestCollector, loss: number) =>
  at.json("/api/v1/runs/a/records", {
    body: { client: `c${++seq}`, seq: 1, items: [{ metrics: { loss } }] },
  });
const lossesOf = async (at: TestCollector) =>
  ((await at.json("/api/v1/runs/there/points?key=loss")).points as [number, number][]).map(
    ([, value]) => value,
  );

/** Files of the data folder that have it in them, in the order of their names. */
const filesWith = (dataDir: string, secret: string): string[] =>
  readdirSync(dataDir, { recursive: true, encoding: "utf8" })
    .filter((path) => statSync(join(dataDir, path)).isFile())
    .filter((path) => readFileSync(join(dataDir, path)).includes(secret))
    .toSorted();

test("the secret of a FedML address is shown by no answer and stands in no file but relays.json; a restart has it", async () => {
  const { up, secret, whole, shown, here } = await pair();
  const said = [await (await add(here.at, whole)).text()];
  await here.at.json("/api/v1/runs", { body: { id: "a" } });
  await record(here.at, 1);
  await arrived(here.at);
  here.at = await here.at.restart();
  await record(here.at, 2);
  expect((await arrived(here.at)).url).toBe(shown);
  expect(await lossesOf(up.at())).toEqual([1, 2]);
  said.push(
    await (await add(here.at, whole)).text(),
    await (await add(here.at, `${up.url}/fedml/another-secret`)).text(),
    await (await add(here.at, up.url)).text(),
    await (await here.at.request("/api/v1/relays/other/retry", { method: "POST" })).text(),
    await (await here.at.request("/relay")).text(),
  );
  expect(said[2]).toContain(`already, at ${shown}`);
  for (const text of said) expect(text).not.toContain(secret);
  expect(filesWith(here.at.dataDir, secret)).toEqual(["relays.json"]);
});

test("an address that stands whole in the database goes on, and is not shown either", async () => {
  const { up, secret, whole, shown, here, file } = await pair();
  await add(here.at, whole);
  await here.at.json("/api/v1/runs", { body: { id: "a" } });
  await record(here.at, 1);
  await arrived(here.at);
  here.at.collector.connection.prepare("UPDATE destination SET url = ?").run(whole);
  rmSync(file, { force: true });
  here.at = await here.at.restart();
  await record(here.at, 2);
  expect((await arrived(here.at)).url).toBe(shown);
  expect(await lossesOf(up.at())).toEqual([1, 2]);
  const refused = await add(here.at, up.url);
  expect(refused.status).toBe(409);
  expect(await refused.text()).not.toContain(secret);
  expect((await add(here.at, whole)).status).toBe(200);
});

test("a secret that is lost is given again with the address", async () => {
  const { up, whole, shown, here, file } = await pair();
  await add(here.at, whole);
  await here.at.json("/api/v1/runs", { body: { id: "a" } });
  await arrived(here.at);
  writeFileSync(file, "{ no json");
  here.at = await here.at.restart();
  await record(here.at, 1);
  const lost = await until(
    () => relayOf(here.at),
    ({ error }) => error !== null,
  );
  expect(lost).toMatchObject({
    url: shown,
    state: "paused",
    error: { hint: expect.stringContaining("secret") },
  });
  expect((await add(here.at, shown)).status).toBe(400);
  expect((await add(here.at, whole)).status).toBe(200);
  await arrived(here.at);
  expect(await lossesOf(up.at())).toEqual([1]);
  // One that is there is not replaced in passing: it may be that of another run.
  expect((await add(here.at, `${up.url}/fedml/another-secret`)).status).toBe(409);
});

test("a platform that says the path it was asked for does not make it public", async () => {
  const { up, secret, whole, here } = await pair();
  up.intercept = (request) =>
    Response.json({ detail: `nothing at ${new URL(request.url).pathname}` }, { status: 404 });
  await add(here.at, whole);
  const { error } = await until(
    () => relayOf(here.at),
    (relay) => relay.error !== null,
  );
  expect(error!.message).toBe("nothing at /fedml/…/fedmlOpsServer/configs/fetch");
  expect(JSON.stringify(error)).not.toContain(secret);
});

test("start does not print it where an address has two names", () => {
  const url = "fedml+http://127.0.0.1:1/fedml/run-secret";
  expect(() =>
    readRelays({ relay: [`one=${url}`, `two=${url}`], relayTokens: {}, insecureHttp: false }),
  ).toThrow("fedml+http://127.0.0.1:1/fedml/… has two names");
});
