import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { readRelays } from "../src/cli/relay-token.ts";
import { readConfig } from "../src/config.ts";
import { createRelays } from "../src/relay/relay.ts";
import { runCli, startServer } from "./helpers/cli.ts";
import { createTestCollector } from "./helpers/collector.ts";
import { makeFolder } from "./helpers/files.ts";
import { until } from "./helpers/relay.ts";

// A process a command, on a machine that may be busy.
setDefaultTimeout(60_000);

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

/** Takes nothing, and keeps what it was shown to be let in. */
function listener() {
  const tokens: (string | null)[] = [];
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    reusePort: false,
    fetch(request) {
      tokens.push(request.headers.get("authorization"));
      return new Response("busy", { status: 503 });
    },
  });
  closers.push(() => server.stop(true));
  return { url: `http://127.0.0.1:${server.port}`, tokens };
}

async function start(relays: string[], env: Record<string, string>) {
  const folder = makeFolder();
  closers.push(() => folder.remove());
  const args = ["--no-hardware", ...relays.flatMap((relay) => ["--relay", relay])];
  const at = await startServer({ dataDir: folder.path, args, env });
  closers.push(() => at.close());
  const secrets = join(folder.path, "relays.json");
  return {
    at,
    secrets: () => (existsSync(secrets) ? JSON.parse(readFileSync(secrets, "utf8")) : {}),
  };
}

const heard = ({ tokens }: { tokens: unknown[] }) =>
  until(
    () => tokens.length,
    (count) => count > 0,
  );

test("a token that could be for several destinations goes to none: the collector does not start", async () => {
  const [one, two] = [listener(), listener()];
  const refused = await start([one.url, `otlp+${two.url}`], { BINNACLE_RELAY_TOKEN: "token-of-one" }).then(
    () => "it started",
    (error: Error) => error.message,
  );
  expect(refused).toContain("$BINNACLE_RELAY_TOKEN is the token of one destination");
  expect(refused).toContain("BINNACLE_RELAY_TOKEN_LAB");
  expect(refused).not.toContain("token-of-one");
  expect([...one.tokens, ...two.tokens]).toEqual([]);
});

test("each destination gets the token under its name, and nobody another's", async () => {
  const [lab, other, otel, fedml] = [listener(), listener(), listener(), listener()];
  const { at, secrets } = await start(
    [`lab=${lab.url}`, `eu-2=${other.url}`, `otel=otlp+${otel.url}`, `fed=fedml+${fedml.url}`],
    {
      BINNACLE_RELAY_TOKEN_LAB: "token-of-lab",
      BINNACLE_RELAY_TOKEN_EU_2: "token-of-eu-2",
      BINNACLE_RELAY_TOKEN_FED: "token-of-nobody",
      BINNACLE_RELAY_TOKEN_OTEL: "token-of-otel",
    },
  );
  await at.api("/api/v1/runs", { id: "a" });
  for (const each of [lab, other, otel, fedml]) await heard(each);
  const seen = [lab, other, otel, fedml].map(({ tokens }) => [...new Set(tokens)]);
  expect(seen).toEqual([["Bearer token-of-lab"], ["Bearer token-of-eu-2"], ["Bearer token-of-otel"], [null]]);
  expect(Object.keys(secrets()).sort()).toEqual(["eu-2", "lab", "otel"]);
  const { relays } = await at.json("relay", "status", "--json");
  expect(relays.map(({ name, kind }: { name: string; kind: string }) => [name, kind])).toEqual([
    ["eu-2", "platform"],
    ["fed", "fedml"],
    ["lab", "platform"],
    ["otel", "otlp"],
  ]);
});

test("one platform beside FedML's gets the token without a name, and FedML's none", async () => {
  const [lab, fedml] = [listener(), listener()];
  const { secrets } = await start([lab.url, `fedml+${fedml.url}`], {
    BINNACLE_RELAY_TOKEN: "token-of-lab\n",
  });
  for (const each of [lab, fedml]) await heard(each);
  expect([...new Set(lab.tokens)]).toEqual(["Bearer token-of-lab"]);
  expect([...new Set(fedml.tokens)]).toEqual([null]);
  expect(Object.values(secrets())).toEqual([{ token: "token-of-lab" }]);
});

test.each([
  ["otlp+https://otel.example.org", "tok-12345"],
  ["fedml+https://open.fedml.ai", undefined],
  ["https://platform.example.org", "tok-12345"],
  ["lab=https://platform.example.org", "tok-12345"],
])("--relay %s alone gets the token without a name, if it takes any", (relay, token) => {
  const config = readConfig({ relay: [relay] }, { HOME: "/tmp", BINNACLE_RELAY_TOKEN: "tok-12345" });
  expect(readRelays(config).map((given) => given.token)).toEqual([token]);
});

test.each([
  [["a=https://one.org", "a=https://two.org"], "a has two addresses"],
  [["a=https://one.org", "b=https://one.org/"], "two names"],
  [["a-b=https://one.org", "a.b=https://two.org"], "would both have $BINNACLE_RELAY_TOKEN_A_B"],
  [[`${"a".repeat(65)}=https://one.org`], "at most 64"],
  [["=https://one.org"], "http or https"],
])("--relay %p is refused", (relay, words) => {
  const config = readConfig({ relay }, { HOME: "/tmp" });
  expect(() => readRelays(config)).toThrow(words);
});

test("said twice it is one, and an own token comes before the common one", () => {
  const env = { HOME: "/tmp", BINNACLE_RELAY_TOKEN: "common-one", BINNACLE_RELAY_TOKEN_LAB: "own-of-lab" };
  const urls = ["lab=https://one.org", "lab=https://one.org/", "https://two.org"];
  expect(readRelays(readConfig({ relay: urls }, env)).map(({ token }) => token)).toEqual([
    "own-of-lab",
    "common-one",
  ]);
});

function listenTo() {
  const at = createTestCollector();
  closers.push(() => at.close());
  const told: string[] = [];
  const relays = createRelays(at.collector, {
    onDiagnostic: (text) => void (/token/.test(text) && told.push(text)),
    onFailed: (error) => told.push(String(error)),
  });
  closers.push(() => relays.close());
  const given = (url: string, token?: string) => ({
    url,
    insecure_http: false,
    ...(token !== undefined && { token }),
  });
  return {
    told,
    secrets: () => JSON.parse(readFileSync(join(at.collector.dataDir, "relays.json"), "utf8")),
    atStart: (url: string, token?: string) => relays.addAddress(given(url, token)),
    add: (name: string, url: string, token?: string) => relays.add({ name, ...given(url, token) }),
  };
}

test("a destination that is known keeps its token: another's is refused, a new one is told of", async () => {
  const { told, atStart, add } = listenTo();
  const [one, two] = [listener(), listener()];
  const { name } = await atStart(one.url, "token-of-one");
  const known = await atStart(two.url, "token-of-two");
  const refused = await add(known.name, two.url, "token-of-one").catch((error) => error);
  expect(refused).toMatchObject({
    code: "conflict",
    message: expect.stringContaining(`is that of ${name}.`),
  });
  await atStart(two.url);
  expect(told).toEqual([]);
  await atStart(two.url, "token-of-one");
  await heard(two);
  expect([...new Set(two.tokens)]).toEqual(["Bearer token-of-two"]);
  expect(told.splice(0)).toEqual([expect.stringContaining(`is that of ${name}, and does not go there`)]);
  await atStart(two.url, "new-of-two");
  expect(told).toEqual([expect.stringMatching(/^relay \S+: it has another token from now on\.$/)]);
});

test.each([
  ["of a backend that is known without one", true],
  ["of a backend that is new", false],
])("a platform's token does not become that %s, and the collector starts", async (_, isKnown) => {
  const { told, secrets, atStart, add } = listenTo();
  const [lab, vendor] = [listener(), listener()];
  const address = `otlp+${vendor.url}`;
  await add("lab", lab.url, "token-of-lab");
  const name = isKnown ? (await atStart(address)).name : "vendor";
  const refused = await add(name, address, "token-of-lab").catch((error) => error);
  expect(refused).toMatchObject({ code: "conflict", message: expect.stringContaining("is that of lab.") });
  await atStart(address, "token-of-lab");
  expect(secrets()).toEqual({ lab: { token: "token-of-lab" } });
  expect(told).toEqual([expect.stringContaining("is that of lab, and does not go there")]);
});

test("relay add takes the token under its name first, and none to FedML", async () => {
  const [lab, fedml] = [listener(), listener()];
  const { at, secrets } = await start([], {});
  const env = {
    BINNACLE_DATA: at.dataDir,
    BINNACLE_RELAY_TOKEN: "token-of-another",
    BINNACLE_RELAY_TOKEN_LAB: "token-of-lab",
  };
  await runCli(["relay", "add", "lab", lab.url], { env });
  await runCli(["relay", "add", "fed", `fedml+${fedml.url}`], { env });
  expect(secrets()).toEqual({ lab: { token: "token-of-lab" } });
  const refused = await runCli(["relay", "add", "fed", `fedml+${fedml.url}`, "--token-file", "x"], { env });
  expect(refused).toMatchObject({ code: 2, stderr: expect.stringContaining("takes no token") });
});
