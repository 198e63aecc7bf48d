import { secure } from "../../src/api/guard.ts";
import { toResponse } from "../../src/api/error.ts";
import { createObjects, type Objects } from "../../src/blob/objects.ts";
import { createFedmlEdge, type FedmlEdge } from "../../src/fedml/edge.ts";
import { serve } from "../../src/runtime.ts";
import { createTestCollector, type TestCollector, type TestCollectorOptions } from "./collector.ts";

/** A collector whose FedML edge listens: signatures are about what goes over the wire. */
export interface TestStorage extends TestCollector {
  edge: FedmlEdge;
  objects: Objects;
  port: number;
  /** Where a run's objects are, and by which keys. */
  of(run: string): { endpoint: string; accessKeyId: string; secretAccessKey: string };
}

export async function createTestStorage(options: TestCollectorOptions = {}): Promise<TestStorage> {
  const test = createTestCollector(options);
  const { collector, trust, unforeseen } = test;
  const diagnostics: string[] = [];
  const edge = createFedmlEdge({
    collector,
    tokens: () => trust.tokens,
    mode: "on",
    onDiagnostic: (text) => void diagnostics.push(text),
  })!;
  await edge.listen({ host: "127.0.0.1", port: 0 });
  const server = serve({
    hostname: "127.0.0.1",
    port: 0,
    async fetch(request, { keepOpen }) {
      try {
        const answer = await edge.fetch(request, { admit: () => {}, keepOpen });
        return secure(answer ?? new Response(null, { status: 404 }));
      } catch (error) {
        return toResponse(error, (each) => void unforeseen.push(each));
      }
    },
  });
  return {
    ...test,
    edge,
    objects: createObjects(collector),
    port: server.port,
    of: (run) => ({
      endpoint: `http://127.0.0.1:${server.port}/fedml/${edge.keys.secretOf({ run })}/s3`,
      ...edge.keys.s3Of({ run }),
    }),
    async close() {
      await server.stop(0);
      await edge.close();
      await test.close();
    },
  };
}
