/**
 * A collector as a process of its own, to be killed: `bun serve-child.ts DIR [OPTIONS]`, options of openCollector as JSON. Prints
 * "ready PORT" once it answers; the admin token is ADMIN_TOKEN.
 */
import { createApp } from "../../src/app.ts";
import { createTrust } from "../../src/api/auth.ts";
import { openCollector } from "../../src/collector.ts";
import { serve } from "../../src/runtime.ts";
import { ADMIN_TOKEN } from "./child.ts";

const [dataDir, options] = process.argv.slice(2);
const fail = (error: unknown) => {
  console.error(error);
  process.exit(1);
};
const collector = openCollector({ dataDir: dataDir!, onFatal: fail, ...JSON.parse(options ?? "{}") });
const trust = createTrust({ admin: ADMIN_TOKEN, now: Date.now });
const app = createApp(collector, { trust, onUnforeseen: fail });
const server = serve({ hostname: "127.0.0.1", port: 0, fetch: (request) => app.fetch(request) });
console.log(`ready ${server.port}`);
