import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createApp } from "../../src/app.ts";
import { createTrust, type Trust } from "../../src/api/auth.ts";
import type { App } from "../../src/api/route.ts";
import { openCollector, type Collector, type CollectorOptions } from "../../src/collector.ts";
import { createFedmlEdge, type FedmlEdge } from "../../src/fedml/edge.ts";
import { createRelays } from "../../src/relay/relay.ts";

export interface TestCollector {
  dataDir: string;
  collector: Collector;
  trust: Trust;
  app: App;
  /** There with the option `fedml`; its broker listens once `fedml.listen` was called. */
  fedml: FedmlEdge | undefined;
  /** Errors that no verb foresaw: `close` fails on them unless the test takes them out. */
  unforeseen: unknown[];
  /** A request with the admin token, or with `token`; a `body` goes as JSON. */
  request(path: string, init?: TestRequest): Promise<Response>;
  /** Same, for an answer that is JSON. */
  // eslint-disable-next-line typescript/no-explicit-any -- a test asserts the shape itself
  json<T = any>(path: string, init?: TestRequest): Promise<T>;
  close(): Promise<void>;
  /** Closes and opens the same data folder again, as a restart does. */
  restart(): Promise<TestCollector>;
}

export interface TestRequest {
  method?: string;
  body?: unknown;
  /** null: none. */
  token?: string | null;
  headers?: Record<string, string>;
}

export interface TestCollectorOptions {
  dataDir?: string;
  now?: () => number;
  admin?: string;
  /** Others may relay here. */
  platform?: boolean;
  /** It can relay to others. */
  relays?: boolean;
  /** It serves FedML's clients. */
  fedml?: "on" | "open" | undefined;
  quota?: CollectorOptions["quota"];
}

const ADMIN = `bnc_admin_${"0123456789abcdef".repeat(4)}`;

/** A collector in a temporary folder of its own, and its app, which is not listening. */
export function createTestCollector({
  dataDir = mkdtempSync(join(tmpdir(), "binnacle-test-")),
  now = Date.now,
  admin = ADMIN,
  platform = false,
  relays: canRelay = false,
  fedml: fedmlMode,
  quota,
}: TestCollectorOptions = {}): TestCollector {
  const unforeseen: unknown[] = [];
  const note = (error: unknown) => void unforeseen.push(error);
  const collector = openCollector({
    dataDir,
    now,
    onFatal: note,
    onListenerError: note,
    ...(quota && { quota }),
  });
  const trust = createTrust({ admin, now });
  const relays = canRelay ? createRelays(collector, { onDiagnostic: () => {}, onFailed: note }) : undefined;
  const fedml =
    fedmlMode &&
    createFedmlEdge({ collector, tokens: () => trust.tokens, mode: fedmlMode, onDiagnostic: () => {} });
  const app = createApp(collector, { trust, onUnforeseen: note, platform, relays, fedml });

  async function request(
    path: string,
    { method, body, token = trust.tokens.admin, headers = {} }: TestRequest = {},
  ): Promise<Response> {
    return app.request(path, {
      method: method ?? (body === undefined ? "GET" : "POST"),
      headers: {
        ...(token !== null && { authorization: `Bearer ${token}` }),
        ...(body !== undefined && { "content-type": "application/json" }),
        ...headers,
      },
      ...(body !== undefined && { body: typeof body === "string" ? body : JSON.stringify(body) }),
    });
  }

  async function closeOnly(): Promise<void> {
    await fedml?.close();
    await relays?.close();
    await collector.close();
    if (unforeseen.length > 0) throw unforeseen[0];
  }

  return {
    dataDir,
    collector,
    trust,
    app,
    fedml,
    unforeseen,
    request,
    async json(path, init) {
      const response = await request(path, init);
      const text = await response.text();
      if (!response.ok) throw new Error(`${response.status} ${text}`);
      return JSON.parse(text);
    },
    async close() {
      await closeOnly();
      rmSync(dataDir, { recursive: true, force: true });
    },
    async restart() {
      await closeOnly();
      return createTestCollector({
        dataDir,
        now,
        admin,
        platform,
        relays: canRelay,
        fedml: fedmlMode,
        quota,
      });
    },
  };
}
