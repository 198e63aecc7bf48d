import { afterEach, describe, expect, test } from "bun:test";
import { createServer, type Socket } from "node:net";
import { gzipSync } from "node:zlib";
import { checkAddress, createResolver, isRefused } from "../src/relay/address.ts";
import { ENTRIES_TYPE, type Batch, type Frame, type Part } from "../src/relay/contract.ts";
import { decodeFrames } from "../src/relay/frame.ts";
import { contentDigest, createHttp, printable, retryAfterMs } from "../src/relay/http.ts";
import { Refusal } from "../src/relay/ports.ts";
import { createTransport } from "../src/relay/transport.ts";
import { selfSigned } from "./helpers/certificate.ts";

const SOURCE = "0123456789abcdef".repeat(2);
const TOKEN = "bnc_source_0123456789abcdef";
const ever = new AbortController().signal;

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

type Handler = (request: Request) => Response | Promise<Response>;

function platform(handler: Handler, tls?: { cert: string; key: string }): string {
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    reusePort: false,
    idleTimeout: 0,
    ...(tls && { tls }),
    fetch: handler,
  });
  closers.push(() => server.stop(true));
  return `${tls ? "https://localhost" : "http://127.0.0.1"}:${server.port}`;
}

/** Says what it is told to whoever connects, whatever was asked. */
async function rawServer(answer: (socket: Socket) => void): Promise<string> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.once("data", () => answer(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as { port: number }).port}`;
}

const httpTo = (url: string, more: Partial<Parameters<typeof createHttp>[0]> = {}) =>
  createHttp({ url, token: () => TOKEN, ...more });

const ask = (
  url: string,
  more: Partial<Parameters<typeof createHttp>[0]> = {},
  signal = ever,
): Promise<any> =>
  httpTo(url, more)
    .postJson(`/sources/${SOURCE}/cursor`, {}, signal)
    .catch((error: unknown) => error);

const problem = (status: number, body: object, headers: Record<string, string> = {}) =>
  new Response(JSON.stringify(body), {
    status,
    headers: { "content-type": "application/problem+json", ...headers },
  });

const frame = (seq: number): Frame => ({
  seq,
  kind: "metric.appended",
  version: 1,
  run: "a",
  client: "c",
  clientSeq: 1,
  ordinal: 0,
  nextStep: 1,
  count: 1,
  time: 1,
  encoding: 0,
  payload: new TextEncoder().encode(`{"seq":${seq}}`),
});

const batch: Batch = {
  epoch: 3,
  nonce: "ab".repeat(16),
  turn: 5,
  path: [SOURCE, "f".repeat(32)],
  prev: 6,
  last: 9,
  digest: null,
  frames: [frame(7), frame(9)],
};

describe("where a destination may be", () => {
  test("https anywhere, http on this machine, or where it is insisted on", () => {
    const check = (url: string, insecureHttp = false) => checkAddress(url, { insecureHttp });
    expect(check("https://platform.example.org:7070/")).toBe("https://platform.example.org:7070");
    expect(check("https://example.org/a/b/")).toBe("https://example.org/a/b");
    expect(check("http://localhost:7070")).toBe("http://localhost:7070");
    expect(check("http://127.0.0.1:7070")).toBe("http://127.0.0.1:7070");
    expect(check("http://[::1]:7070")).toBe("http://[::1]:7070");
    expect(check("http://example.org", true)).toBe("http://example.org");
    expect(check("http://10.0.0.5:7070", true)).toBe("http://10.0.0.5:7070");
    for (const [url, why] of [
      ["http://example.org", "without TLS"],
      ["ftp://example.org", "an http or https address"],
      ["example.org", "an http or https address"],
      ["", "an http or https address"],
      ["https://user:pass@example.org", "a user or a password"],
      ["https://user@example.org", "a user or a password"],
      ["https://example.org/?token=x", "a query"],
      ["https://example.org/#x", "a query or a fragment"],
      ["https://169.254.169.254", "no platform's"],
      ["https://[fe80::1]", "no platform's"],
      ["https://[::ffff:169.254.169.254]", "no platform's"],
      ["https://0.0.0.0:7070", "no platform's"],
      ["https://2852039166", "no platform's"],
    ] as const)
      expect(() => check(url), url).toThrow(why);
  });

  test("never at an address of the machine's own network or cloud, whatever the name says", async () => {
    for (const address of [
      "169.254.169.254",
      "169.254.0.1",
      "100.100.100.200",
      "168.63.129.16",
      "0.0.0.0",
      "224.0.0.1",
      "255.255.255.255",
      "fe80::1%eth0",
      "fd00:ec2::254",
      "::",
      "ff02::1",
      "::ffff:169.254.169.254",
      "nonsense",
    ])
      expect(isRefused(address), address).toBe(true);
    for (const address of [
      "127.0.0.1",
      "10.1.2.3",
      "192.168.1.1",
      "8.8.8.8",
      "::1",
      "2001:db8::1",
      "fd12::1",
    ])
      expect(isRefused(address), address).toBe(false);
    let served = 0;
    const url = platform(() => Response.json({ served: ++served }));
    const named = url.replace("127.0.0.1", "localhost");
    const answer = await ask(named, { resolve: async () => ["127.0.0.1", "169.254.169.254"] });
    expect(answer).toMatchObject({ code: "forbidden" });
    expect(answer.message).toContain("localhost is 169.254.169.254");
    expect(served).toBe(0);
    expect(await ask(named, { resolve: async () => ["127.0.0.1"] })).toMatchObject({ json: { served: 1 } });
  });

  test("a name is asked for again only after a while", async () => {
    let asked = 0;
    const check = createResolver("https://example.org", async () => {
      asked++;
      return ["192.0.2.1"];
    });
    await check();
    await check();
    expect(asked).toBe(1);
  });
});

describe("what is sent", () => {
  test("a batch: digested, with all that the contract names and the token", async () => {
    let seen: { headers: Headers; path: string; frames: Frame[]; body: Uint8Array } | undefined;
    const url = platform(async (request) => {
      const body = new Uint8Array(await request.arrayBuffer());
      const frames = decodeFrames(body);
      seen = { headers: request.headers, path: new URL(request.url).pathname, frames, body };
      return Response.json({ acked: 9 });
    });
    const transport = createTransport(httpTo(url), () => 1234);
    expect(await transport.send(SOURCE, batch, ever)).toEqual({ acked: 9 });
    expect(seen!.path).toBe(`/relay/v1/sources/${SOURCE}/batches`);
    expect(seen!.frames).toEqual(batch.frames);
    const { headers } = seen!;
    expect(headers.get("content-type")).toBe(ENTRIES_TYPE);
    expect(headers.get("content-digest")).toBe(contentDigest(seen!.body));
    expect(headers.get("idempotency-key")).toBe('"3/7-9"');
    expect(headers.get("authorization")).toBe(`Bearer ${TOKEN}`);
    expect(headers.get("x-relay-epoch")).toBe("3");
    expect(headers.get("x-relay-nonce")).toBe(batch.nonce);
    expect(headers.get("x-relay-turn")).toBe("5");
    expect(headers.get("x-relay-path")).toBe(batch.path.join(","));
    expect(headers.get("x-relay-sent-at")).toBe("1234");
    expect(headers.has("x-relay-digest")).toBe(false);
    await transport.send(SOURCE, { ...batch, digest: "d".repeat(64) }, ever);
    expect(seen!.headers.get("x-relay-digest")).toBe("d".repeat(64));
  });

  test("positions of many parts are asked in several requests, each answered in full", async () => {
    const parts: Part[] = Array.from({ length: 2500 }, (_, i) => ({ of: "logs", run: `r${i}` }));
    const sizes: number[] = [];
    const url = platform(async (request) => {
      const { parts: asked } = (await request.json()) as { parts: Part[] };
      sizes.push(asked.length);
      return Response.json({ positions: asked.map((_, i) => i) });
    });
    const transport = createTransport(httpTo(url), Date.now);
    const positions = await transport.positions(SOURCE, batch, parts, ever);
    expect(sizes).toEqual([1000, 1000, 500]);
    expect(positions).toHaveLength(2500);
    const short = createTransport(httpTo(platform(() => Response.json({ positions: [1] }))), Date.now);
    const refused = await short.positions(SOURCE, batch, parts.slice(0, 2), ever).catch((error) => error);
    expect(refused).toMatchObject({ code: "unreachable" });
  });

  test("a piece of history says of what, from where to where, and at which cursor", async () => {
    let headers: Headers | undefined;
    const url = platform((request) => {
      ({ headers } = request);
      return Response.json({ position: 20 });
    });
    const { epoch, nonce, turn, path } = batch;
    const answer = await createTransport(httpTo(url), Date.now).sendHistory(
      SOURCE,
      {
        epoch,
        nonce,
        turn,
        path,
        frames: [],
        acked: 4,
        upto: 9,
        digest: "e".repeat(64),
        part: { of: "metrics", run: "a" },
        from: 10,
        to: 20,
      },
      ever,
    );
    expect(answer).toEqual({ position: 20 });
    expect(JSON.parse(headers!.get("x-relay-part")!)).toEqual({ of: "metrics", run: "a" });
    const told = ["from", "to", "acked", "upto", "digest"].map((name) => headers!.get(`x-relay-${name}`));
    expect(told).toEqual(["10", "20", "4", "9", "e".repeat(64)]);
  });
});

describe("a platform that says no", () => {
  test("is understood by its problem's type, members and Retry-After", async () => {
    const url = platform(() =>
      problem(
        409,
        {
          type: "urn:binnacle:sequence-gap",
          title: "t",
          status: 409,
          detail: "Missing.",
          expected: 5,
          hint: "Do.",
        },
        { "retry-after": "7" },
      ),
    );
    const refusal = (await ask(url)) as Refusal;
    expect(refusal).toBeInstanceOf(Refusal);
    expect(refusal).toMatchObject({
      status: 409,
      type: "sequence-gap",
      message: "Missing.",
      retryAfterMs: 7000,
    });
    expect(refusal.details).toMatchObject({ expected: 5, hint: "Do." });
  });

  test("in another way than ours is known by its status, and its words are shown as text", async () => {
    const lines = platform(() =>
      problem(500, { type: "about:blank", detail: `a\u001b[31m\n\u202eb${"x".repeat(900)}` }),
    );
    const refusal = (await ask(lines)) as Refusal;
    expect(refusal).toMatchObject({ status: 500, type: "500" });
    expect(refusal.message).toStartWith("a [31m bxxx");
    expect(refusal.message.length).toBeLessThanOrEqual(500);
    const page = platform(() => new Response("<h1>nginx</h1>", { status: 404 }));
    expect(await ask(page)).toMatchObject({ status: 404, type: "404" });
    expect((await ask(page)).message).toContain("it is no platform");
  });

  test("Retry-After counts by the platform's clock, and nonsense does not count", () => {
    const after = (retryAfter: string, date?: string) =>
      retryAfterMs(new Headers({ "retry-after": retryAfter, ...(date !== undefined && { date }) }));
    expect(after("120")).toBe(120_000);
    expect(after("0")).toBe(0);
    expect(after("Wed, 21 Oct 2015 07:28:30 GMT", "Wed, 21 Oct 2015 07:28:00 GMT")).toBe(30_000);
    expect(after("Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:29:00 GMT")).toBe(0);
    for (const text of ["-5", "1e9", "soon", "", "12345678901234567890", "1.5"])
      expect(after(text)).toBeUndefined();
    expect(after("Wed, 21 Oct 2015 07:28:30 GMT")).toBeUndefined();
    expect(retryAfterMs(new Headers())).toBeUndefined();
  });
});

describe("a platform that is none", () => {
  const unreachable = async (url: string, words: string | RegExp, more = {}) => {
    const error = await ask(url, more);
    expect(error).toMatchObject({ code: "unreachable" });
    expect(error.message).toMatch(words);
    expect(error.message).not.toContain(TOKEN);
    return error as { hint?: string };
  };

  test("nobody listens, or the name is not known", async () => {
    const { hint } = await unreachable("http://127.0.0.1:1", "Nobody answers at 127.0.0.1:1");
    expect(hint).toContain("All data waits here");
    await unreachable("https://no-such-name.invalid", "no-such-name.invalid is not known");
  });

  test("redirects are not followed, and the token goes nowhere else", async () => {
    let elsewhere = 0;
    const other = platform(() => Response.json({ elsewhere: ++elsewhere }));
    for (const status of [301, 302, 303, 307, 308]) {
      const url = platform(() => new Response(null, { status, headers: { location: `${other}/x?y` } }));
      const { hint } = await unreachable(url, "a redirect");
      expect(hint).toContain(`${other} is right`);
    }
    expect(elsewhere).toBe(0);
    const within = platform(() => new Response(null, { status: 302, headers: { location: "/sign-in" } }));
    expect((await unreachable(within, "a redirect")).hint).toContain("within itself");
    const odd = platform(
      () => new Response(null, { status: 302, headers: { location: "javascript:alert(1)" } }),
    );
    expect((await unreachable(odd, "a redirect")).hint).not.toContain("javascript");
  });

  test("garbage, in whatever layer", async () => {
    await unreachable(await rawServer((socket) => socket.end("\0\x01garbage\r\n\r\n")), "Nobody answers");
    await unreachable(
      await rawServer((socket) => socket.end("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc")),
      "Nobody answers",
    );
    await unreachable(await rawServer((socket) => socket.destroy()), "Nobody answers");
    const greet = (answer: Response) =>
      createTransport(httpTo(platform(() => answer)), Date.now)
        .greet(SOURCE, {} as never, ever)
        .catch((error: unknown) => error);
    for (const body of ["hello", "", "[]", "null", '{"acked":-1}', '{"acked":9}'])
      expect(await greet(new Response(body)), body).toMatchObject({ code: "unreachable" });
    const packed = gzipSync(JSON.stringify({ acked: 9 }));
    const error = await greet(new Response(packed, { headers: { "content-encoding": "gzip" } }));
    expect((error as Error).message).toContain("something in gzip");
  });

  test("gigabytes are cut off at a megabyte, announced or not, packed or not, and in headers too", async () => {
    const before = process.memoryUsage().rss;
    let sent = 0;
    const endless = platform(
      () =>
        new Response(
          new ReadableStream({
            pull(controller) {
              sent += 1024 * 1024;
              controller.enqueue(new Uint8Array(1024 * 1024));
            },
          }),
        ),
    );
    await unreachable(endless, "more than an answer is");
    expect(sent).toBeLessThan(64 * 1024 * 1024);
    const failing = platform(() => new Response(new Uint8Array(3 * 1024 * 1024), { status: 500 }));
    await unreachable(failing, "more than an answer is");
    const bomb = gzipSync(new Uint8Array(256 * 1024 * 1024));
    const packed = platform(() => new Response(bomb, { headers: { "content-encoding": "gzip" } }));
    await unreachable(packed, "something in gzip");
    const headers = await rawServer((socket) => {
      socket.write("HTTP/1.1 200 OK\r\n");
      for (let i = 0; i < 64; i++) socket.write(`x-${i}: ${"y".repeat(60_000)}\r\n`);
      socket.end("\r\n");
    });
    await unreachable(headers, "Nobody answers");
    expect(process.memoryUsage().rss - before).toBeLessThan(400 * 1024 * 1024);
  });

  test("silence ends after a time that grows with what is sent", async () => {
    const silent = await rawServer(() => {});
    const since = performance.now();
    await unreachable(silent, "did not answer within", { timeoutMs: 200 });
    expect(performance.now() - since).toBeLessThan(5000);
    // Half of an answer and then nothing: a connection whose other end is gone.
    const half = await rawServer(
      (socket) => void socket.write("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{"),
    );
    await unreachable(half, "did not answer within", { timeoutMs: 200 });
    const drip = await rawServer((socket) => {
      socket.write("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n");
      const timer = setInterval(() => socket.write(" "), 20);
      socket.on("close", () => clearInterval(timer));
    });
    await unreachable(drip, "did not answer within", { timeoutMs: 300 });
    const body = new Uint8Array(64 * 1000);
    const slower = performance.now();
    const error = await httpTo(silent, { timeoutMs: 100 })
      .request({ method: "POST", path: "/x", body, signal: ever })
      .catch((error: unknown) => error);
    expect(error).toMatchObject({ code: "unreachable" });
    expect(performance.now() - slower).toBeGreaterThan(1000);
  });

  test("an abort of ours is no fault of the platform's", async () => {
    const silent = await rawServer(() => {});
    const ending = new AbortController();
    const asked = ask(silent, {}, ending.signal);
    ending.abort(new Error("stopping"));
    expect(await asked).toMatchObject({ message: "stopping" });
    expect(await ask(silent, {}, AbortSignal.abort(new Error("stopped")))).toMatchObject({
      message: "stopped",
    });
  });

  test.skipIf(Bun.which("openssl") === null)(
    "a certificate must be good for the name, by the system's authorities or the one that was named",
    async () => {
      const { cert, key } = selfSigned("localhost");
      const url = platform(() => Response.json({ ok: true }), { cert, key });
      const { hint } = await unreachable(url, "is not to be trusted");
      expect(hint).toContain("--ca-file");
      expect(await ask(url, { ca: cert })).toMatchObject({ json: { ok: true } });
      const other = await unreachable(url.replace("localhost", "127.0.0.1"), /not to be trusted.*ALTNAME/, {
        ca: cert,
      });
      expect(other.hint).toContain("other names");
      const wrong = selfSigned("localhost");
      await unreachable(url, "is not to be trusted", { ca: wrong.cert });
      const expired = selfSigned("localhost", { days: -1 });
      const late = platform(() => Response.json({}), expired);
      expect((await unreachable(late, /not to be trusted.*EXPIRED/, { ca: expired.cert })).hint).toContain(
        "clocks",
      );
      const plain = platform(() => Response.json({}));
      await unreachable(plain.replace("http:", "https:"), "does not speak TLS");
    },
  );
});

describe("the token", () => {
  test("stands in no message, whatever a platform says", async () => {
    const echo = platform((request) =>
      problem(401, {
        type: "urn:binnacle:unauthorized",
        detail: `I know your ${request.headers.get("authorization")}!`,
        hint: `Use ${request.headers.get("authorization")}`,
      }),
    );
    const refusal = (await ask(echo)) as Refusal;
    expect(refusal).toMatchObject({ status: 401, type: "unauthorized", message: "I know your Bearer …!" });
    expect(Bun.inspect(refusal)).not.toContain(TOKEN);
  });

  test("nor in a hint, where it came back as the name of a host", async () => {
    const token = "AbCdEf0123456789";
    const url = platform(
      () => new Response(null, { status: 308, headers: { location: `http://${token}.example.org/` } }),
    );
    const error = await ask(url, { token: () => token });
    expect(error).toMatchObject({ code: "unreachable" });
    expect(error.hint).toContain("http://….example.org");
    expect(Bun.inspect(error).toLowerCase()).not.toContain(token.toLowerCase());
  });

  test("others' words are one line", () => expect(printable("a\r\nb\0\u0085c", 10)).toBe("a b c"));
});
