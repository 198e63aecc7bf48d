import { Hono } from "hono";
import { secure } from "../../src/api/guard.ts";
import { toResponse } from "../../src/api/error.ts";
import { createObjects, type Objects } from "../../src/blob/objects.ts";
import { createCounts, type FedmlCounts } from "../../src/fedml/counts.ts";
import { createKeys, type FedmlKeys } from "../../src/fedml/keys.ts";
import { storageRoutes, type StorageContext } from "../../src/fedml/storage.ts";
import { serve } from "../../src/runtime.ts";
import { createTestCollector, type TestCollector } from "./collector.ts";

/** A collector whose storage listens: signatures are about what goes over the wire. */
export interface TestStorage extends TestCollector {
  keys: FedmlKeys;
  counts: FedmlCounts;
  objects: Objects;
  port: number;
  /** Where a run's objects are, and by which keys. */
  of(run: string): { endpoint: string; accessKeyId: string; secretAccessKey: string };
}

export async function createTestStorage(
  options: Parameters<typeof createTestCollector>[0] & { onObject?: StorageContext["onObject"] } = {},
): Promise<TestStorage> {
  const test = createTestCollector(options);
  const keys = createKeys(() => test.trust.tokens);
  const counts = createCounts(test.collector.now);
  const objects = createObjects(test.collector);
  const onObject = options.onObject ?? (async () => {});
  const app = new Hono();
  const context = { collector: test.collector, keys, counts, objects, onObject };
  app.route("/fedml/:secret/s3", storageRoutes(context));
  app.onError((error) => toResponse(error, (unforeseen) => void test.unforeseen.push(unforeseen)));
  const server = serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: async (request, connection) => secure(await app.fetch(request, connection)),
  });
  return {
    ...test,
    keys,
    counts,
    objects,
    port: server.port,
    of: (run) => ({
      endpoint: `http://127.0.0.1:${server.port}/fedml/${keys.secretOf({ run })}/s3`,
      ...keys.s3Of({ run }),
    }),
    async close() {
      await server.stop(0);
      await test.close();
    },
  };
}
