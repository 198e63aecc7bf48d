import { createTestCollector, type TestCollector, type TestCollectorOptions } from "./collector.ts";

/** A platform that listens, and keeps its port and its data when it goes away and comes back. */
export interface TestPlatform {
  url: string;
  at: TestCollector;
  /** Every request that came, by its path. */
  requests: string[];
  /** Answered in the place of the platform, where it returns something. */
  intercept: ((request: Request) => Response | undefined | Promise<Response | undefined>) | undefined;
  addSource(name: string): Promise<string>;
  /** Nobody listens any more; its collector is closed. */
  stop(): Promise<void>;
  start(): Promise<void>;
  close(): Promise<void>;
}

export async function startPlatform(options: TestCollectorOptions = {}): Promise<TestPlatform> {
  let at: TestCollector | undefined = createTestCollector({ platform: true, relays: true, ...options });
  let server: ReturnType<typeof Bun.serve> | undefined;
  const platform: TestPlatform = {
    url: "",
    get at() {
      return at!;
    },
    requests: [],
    intercept: undefined,
    async addSource(name) {
      const { token } = await at!.json("/api/v1/sources", { body: { name } });
      return token;
    },
    async stop() {
      await server?.stop(true);
      server = undefined;
      await at!.restart().then((again) => (at = again));
    },
    async start() {
      server = Bun.serve({
        port: Number(new URL(platform.url || "http://x:0").port),
        hostname: "127.0.0.1",
        reusePort: false,
        fetch: async (request) => {
          platform.requests.push(new URL(request.url).pathname);
          return (await platform.intercept?.(request)) ?? at!.app.fetch(request);
        },
      });
      platform.url = `http://127.0.0.1:${server.port}`;
    },
    async close() {
      await server?.stop(true);
      await at!.close();
    },
  };
  await platform.start();
  return platform;
}

/** Resolves when it is so; says what it was instead where that takes too long. */
export async function until<T>(
  look: () => T | Promise<T>,
  is: (value: T) => boolean,
  within = 20_000,
): Promise<T> {
  const end = performance.now() + within;
  for (;;) {
    const value = await look();
    if (is(value)) return value;
    if (performance.now() > end) throw new Error(`It is still ${Bun.inspect(value)}`);
    await Bun.sleep(5);
  }
}
