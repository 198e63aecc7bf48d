import type { Relay, RelayList } from "../../src/relay/schema.ts";
import { createTestCollector, type TestCollector, type TestCollectorOptions } from "./collector.ts";
import { until } from "./relay.ts";

/** A collector that FedML's clients take for their platform; its HTTP stays at one port over restarts, as its broker does not. */
export interface FedmlPlatform {
  /** Anybody may write there. */
  url: string;
  port: number;
  at(): TestCollector;
  /** Asked before the platform: what it answers is the answer. */
  intercept: ((request: Request) => Response | undefined | Promise<Response | undefined>) | undefined;
  /** Paths and queries of what came. */
  requests: string[];
  restart(): Promise<void>;
  /** Nobody answers until `start`. */
  stop(): Promise<void>;
  start(): Promise<void>;
  close(): Promise<void>;
}

export async function startFedmlPlatform(options: TestCollectorOptions = {}): Promise<FedmlPlatform> {
  let at = createTestCollector({ fedml: "open", ...options });
  await at.fedml!.listen({ host: "127.0.0.1", port: 0 });
  let server: ReturnType<typeof Bun.serve> | undefined;
  const platform: FedmlPlatform = {
    url: "",
    port: 0,
    at: () => at,
    intercept: undefined,
    requests: [],
    async restart() {
      at = await at.restart();
      await at.fedml!.listen({ host: "127.0.0.1", port: 0 });
    },
    async stop() {
      await server?.stop(true);
      server = undefined;
      await at.fedml!.close();
    },
    async start() {
      at = await at.restart();
      await at.fedml!.listen({ host: "127.0.0.1", port: 0 });
      listen();
    },
    async close() {
      await server?.stop(true);
      await at.close();
    },
  };
  function listen(): void {
    server = Bun.serve({
      port: platform.port,
      hostname: "127.0.0.1",
      reusePort: false,
      async fetch(request) {
        const { pathname, search } = new URL(request.url);
        platform.requests.push(pathname + search);
        return (await platform.intercept?.(request)) ?? at.app.fetch(request);
      },
    });
    platform.port = server.port!;
    platform.url = `fedml+http://127.0.0.1:${platform.port}`;
  }
  listen();
  return platform;
}

export const relayOf = async (at: TestCollector): Promise<Relay> =>
  (await at.json<RelayList>("/api/v1/relays")).relays[0]!;

/** All of it, files too. */
export const arrived = (at: TestCollector): Promise<Relay> =>
  until(
    () => relayOf(at),
    ({ state, backlog, content }) => state === "idle" && backlog.entries === 0 && content?.files === 0,
    60_000,
  );
