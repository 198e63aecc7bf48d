/**
 * A collector as a process of its own, to be killed: `bun serve-child.ts DIR [OPTIONS]`, options of openCollector as JSON. Prints
 * "ready PORT" once it answers; the admin token is ADMIN_TOKEN. With `relays` it also takes what else would read the hardware, at
 * /samples of DEVICE. /journal tells which entries are there.
 */
import { createApp } from "../../src/app.ts";
import { createTrust } from "../../src/api/auth.ts";
import { openCollector } from "../../src/collector.ts";
import { registerDevice } from "../../src/device/register.ts";
import { createFedmlEdge } from "../../src/fedml/edge.ts";
import { createRelays } from "../../src/relay/relay.ts";
import { serve } from "../../src/runtime.ts";
import { appendSamples } from "../../src/sample/append.ts";
import type { Sample } from "../../src/sample/schema.ts";
import { ADMIN_TOKEN, type ChildOptions } from "./child.ts";
import { DEVICE, facts } from "./device.ts";

const [dataDir, text = "{}"] = process.argv.slice(2);
const {
  platform = false,
  relays: canRelay = false,
  fedml: canFedml = false,
  ...options
} = JSON.parse(text) as ChildOptions;
const fail = (error: unknown) => {
  console.error(error);
  process.exit(1);
};
const collector = openCollector({ dataDir: dataDir!, onFatal: fail, ...options });
const trust = createTrust({ admin: ADMIN_TOKEN, now: Date.now });
const relays = canRelay ? createRelays(collector, { onDiagnostic() {}, onFailed: fail }) : undefined;
const fedml = canFedml
  ? createFedmlEdge({ collector, tokens: () => trust.tokens, mode: "on", onDiagnostic() {} })
  : undefined;
const app = createApp(collector, { trust, onUnforeseen: fail, platform, relays, fedml });
const server = serve({
  hostname: "127.0.0.1",
  port: 0,
  fetch(request) {
    const { pathname } = new URL(request.url);
    if (pathname === "/api/v1/journal") return Response.json(collector.journal.bounds());
    return canRelay && pathname === "/api/v1/samples" ? takeSamples(request) : app.fetch(request);
  },
});

async function takeSamples(request: Request): Promise<Response> {
  await registerDevice(collector, DEVICE, facts());
  await appendSamples(collector, DEVICE, (await request.json()) as Sample[]);
  return new Response();
}

console.log(`ready ${server.port}`);
