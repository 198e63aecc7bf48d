import { request as ask } from "node:http";

/** Stands between clients and a collector, counts what passes and can be told to hold it up. */
export interface CollectorProxy {
  url: string;
  /** Bytes of files that clients sent. */
  bytes: number;
  /** Requests, as "PUT /api/v1/…". */
  requests: string[];
  /** Undefined: passes everything on at once. May delay, or answer itself. */
  hold: ((method: string, path: string) => Promise<Response | undefined> | undefined) | undefined;
  stop(): void;
}

export function createCollectorProxy(target: () => string): CollectorProxy {
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    idleTimeout: 0,
    async fetch(request) {
      const { pathname, search } = new URL(request.url);
      const body = request.body ? Buffer.from(await request.arrayBuffer()) : undefined;
      proxy.requests.push(`${request.method} ${pathname}`);
      const held = await proxy.hold?.(request.method, pathname);
      if (held) return held;
      if (/\/chunks\/|\/pack$/.test(pathname)) proxy.bytes += body?.length ?? 0;
      return pass(new URL(pathname + search, target()), request, body);
    },
  });
  const proxy: CollectorProxy = {
    url: `http://127.0.0.1:${server.port}`,
    bytes: 0,
    requests: [],
    hold: undefined,
    stop: () => void server.stop(true),
  };
  return proxy;
}

/** By node:http: fetch would end a stream without bytes after a while. */
function pass(url: URL, { method, headers }: Request, body: Buffer | undefined): Promise<Response> {
  return new Promise((resolve) => {
    const forwarded = ask(
      url,
      { method, headers: { ...Object.fromEntries(headers), host: url.host } },
      (answer) => {
        const stream = new ReadableStream({
          start(controller) {
            answer.on("data", (data: Buffer) => controller.enqueue(data));
            answer.on("end", () => controller.close());
            answer.on("error", (error) => controller.error(error));
          },
          cancel: () => void answer.destroy(),
        });
        const status = answer.statusCode!;
        resolve(
          new Response(status === 204 ? null : stream, {
            status,
            headers: answer.headers as Record<string, string>,
          }),
        );
      },
    );
    forwarded.on("error", () => resolve(new Response("", { status: 502 })));
    forwarded.end(body);
  });
}
