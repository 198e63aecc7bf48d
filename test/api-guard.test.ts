import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { needOf } from "../src/api/auth.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";

const METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"];
const UNKNOWN = [
  "/api/v1/nothing",
  "/api/v2/runs",
  "/admin",
  "/runs",
  "/api/v1/runs/1/records/x",
  "/metrics",
];

let at: TestCollector;
let everywhere: { method: string; path: string }[] = [];

beforeAll(async () => {
  at = createTestCollector();
  await at.json("/api/v1/runs", { body: { id: "1" } });
  const paths = new Set(at.app.routes.filter(({ path }) => path !== "/*").map(({ path }) => path));
  const concrete = [...paths].map((path) => path.replace(":id", "1").replace(/:\w+/, "file"));
  everywhere = [...concrete, ...UNKNOWN].flatMap((path) => METHODS.map((method) => ({ method, path })));
  expect(everywhere.length).toBeGreaterThan(200);
});
afterAll(() => at.close());

const isOpen = ({ method, path }: { method: string; path: string }) => needOf(method, path).scope === "none";

const isSteering = ({ method, path }: { method: string; path: string }) =>
  ["manage", "admin"].includes(needOf(method, path).scope);

/** What a run's token may begin with before a run is named: its own run, and bytes. */
const isBeginning = ({ method, path }: { method: string; path: string }) =>
  (method === "POST" && path === "/api/v1/runs") ||
  (path.startsWith("/api/v1/blobs/") && needOf(method, path).scope === "write");

interface Attack {
  name: string;
  headers: () => Record<string, string>;
  query?: () => string;
  status: number;
  /** Where the attack is none. */
  except?: (target: { method: string; path: string }) => boolean;
}

const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
const admin = () => bearer(at.trust.tokens.admin);
/** The list of files that a pack is to have is too long for a query. */
const isRead = ({ method, path }: { method: string; path: string }) =>
  method === "GET" ||
  method === "HEAD" ||
  (method === "POST" && path.endsWith("/pack") && !path.includes("/blobs/"));

const attacks: Attack[] = [
  { name: "no token", headers: () => ({}), status: 401, except: isOpen },
  {
    name: "a wrong token",
    headers: () => bearer(`bnc_admin_${"0".repeat(64)}`),
    status: 401,
    except: isOpen,
  },
  {
    name: "half a token",
    headers: () => bearer(at.trust.tokens.admin.slice(0, -1)),
    status: 401,
    except: isOpen,
  },
  { name: "an empty token", headers: () => ({ authorization: "Bearer " }), status: 401, except: isOpen },
  {
    name: "basic authentication",
    headers: () => ({ authorization: `Basic ${btoa(`x:${at.trust.tokens.admin}`)}` }),
    status: 401,
    except: isOpen,
  },
  {
    name: "the token in the query",
    headers: () => ({}),
    query: () => `?token=${at.trust.tokens.admin}&access_token=${at.trust.tokens.admin}`,
    status: 401,
    except: isOpen,
  },
  {
    name: "a made-up cookie",
    headers: () => ({ cookie: `binnacle_80=${Date.now() + 1e9}.00.${"0".repeat(64)}; binnacle=x` }),
    status: 401,
    except: isOpen,
  },
  {
    name: "a read token for what changes something",
    headers: () => bearer(at.trust.tokens.read),
    status: 403,
    except: isRead,
  },
  {
    name: "a read token for a heartbeat",
    headers: () => bearer(at.trust.tokens.read),
    status: 403,
    except: ({ method, path }) => method !== "GET" || !path.endsWith("/heartbeat"),
  },
  {
    name: "a write token for what the admin does",
    headers: () => bearer(at.trust.tokens.write),
    status: 403,
    except: (target) => !isSteering(target),
  },
  {
    name: "the token of another run",
    headers: () => bearer(at.trust.tokens.ofRun("2")),
    status: 403,
    except: (target) => isOpen(target) || isBeginning(target),
  },
  {
    name: "the token of this run for what is not its own",
    headers: () => bearer(at.trust.tokens.ofRun("1")),
    status: 403,
    except: (target) =>
      isOpen(target) ||
      (target.path.startsWith("/api/v1/runs/1") && !isSteering(target)) ||
      isBeginning(target),
  },
  { name: "a foreign host", headers: () => ({ ...admin(), host: "evil.example" }), status: 421 },
  {
    name: "a foreign host and port",
    headers: () => ({ ...admin(), host: "evil.example:7070" }),
    status: 421,
  },
  {
    name: "a host that begins like ours",
    headers: () => ({ ...admin(), host: "localhost.evil.example" }),
    status: 421,
  },
  {
    name: "a host that ends like ours",
    headers: () => ({ ...admin(), host: "evil-localhost" }),
    status: 421,
  },
  { name: "the host 0.0.0.0", headers: () => ({ ...admin(), host: "0.0.0.0:7070" }), status: 421 },
  {
    name: "a user in the host",
    headers: () => ({ ...admin(), host: "localhost@evil.example" }),
    status: 421,
  },
  {
    name: "a rebound name: host and origin agree, and are not ours",
    headers: () => ({
      ...admin(),
      host: "evil.example",
      origin: "http://evil.example",
      "sec-fetch-site": "same-origin",
    }),
    status: 421,
  },
  { name: "a foreign origin", headers: () => ({ ...admin(), origin: "http://evil.example" }), status: 403 },
  { name: "the origin null", headers: () => ({ ...admin(), origin: "null" }), status: 403 },
  {
    name: "an origin on another port of this machine",
    headers: () => ({ ...admin(), host: "localhost:7070", origin: "http://localhost:8888" }),
    status: 403,
  },
  {
    name: "an origin that is no web page",
    headers: () => ({ ...admin(), host: "localhost", origin: "file://localhost" }),
    status: 403,
  },
  {
    name: "a cross-site request",
    headers: () => ({ ...admin(), "sec-fetch-site": "cross-site" }),
    status: 403,
  },
  {
    name: "a same-site request",
    headers: () => ({ ...admin(), "sec-fetch-site": "same-site" }),
    status: 403,
  },
];

describe("every route and every method, known or not, refuses", () => {
  for (const { name, headers, query, status, except } of attacks)
    test(name, async () => {
      let tried = 0;
      for (const target of everywhere) {
        if (except?.(target)) continue;
        tried++;
        const { method, path } = target;
        const response = await at.app.request(path + (query?.() ?? ""), {
          method,
          headers: { "content-type": "application/json", ...headers() },
        });
        await response.body?.cancel();
        expect(response.status, `${method} ${path}`).toBe(status);
        for (const header of response.headers.keys())
          expect(header.startsWith("access-control-"), `${method} ${path}`).toBe(false);
        expect(response.headers.get("x-content-type-options")).toBe("nosniff");
      }
      expect(tried).toBeGreaterThan(0);
    });
});

test("no preflight is ever answered with permission", async () => {
  const response = await at.app.request("/api/v1/runs", {
    method: "OPTIONS",
    headers: {
      origin: "http://localhost",
      host: "localhost",
      "access-control-request-method": "POST",
      "access-control-request-headers": "authorization",
    },
  });
  expect(response.status).toBe(401);
  expect([...response.headers.keys()].filter((name) => name.startsWith("access-control"))).toEqual([]);
});

test("a Host is taken by name, whatever its port or case, also through a tunnel", async () => {
  for (const host of ["localhost", "LOCALHOST:1", "127.0.0.1:9000", "[::1]:7070", "localhost:65535"])
    expect((await at.request("/api/v1/runs", { headers: { host } })).status, host).toBe(200);
  const own = { host: "localhost:9000", origin: "http://localhost:9000", "sec-fetch-site": "same-origin" };
  expect((await at.request("/api/v1/runs", { headers: own })).status).toBe(200);
});

test("a token for one run creates, joins and writes that run, and no other", async () => {
  const token = at.trust.tokens.ofRun("77");
  expect((await at.request("/api/v1/runs", { token, body: { id: "77" } })).status).toBe(201);
  expect((await at.request("/api/v1/runs", { token, body: { id: "78" } })).status).toBe(403);
  expect((await at.request("/api/v1/runs", { token, body: {} })).status).toBe(403);
  const batch = { client: "c", seq: 1, items: [{ metrics: { a: 1 } }] };
  expect((await at.request("/api/v1/runs/77/records", { token, body: batch })).status).toBe(200);
  const spans = { client: "c", seq: 2, items: [{ name: "eval", started: 1 }] };
  expect((await at.request("/api/v1/runs/77/spans", { token, body: spans })).status).toBe(200);
  expect((await at.request("/api/v1/runs/1/spans", { token, body: spans })).status).toBe(403);
  expect((await at.request("/api/v1/runs/77/metrics", { token })).status).toBe(200);
  expect((await at.request("/api/v1/runs/1/records", { token, body: batch })).status).toBe(403);
  expect((await at.request("/api/v1/runs/1", { token })).status).toBe(403);
  expect((await at.request("/api/v1/runs", { token })).status).toBe(403);
  expect((await at.request("/api/v1/runs/77", { token, method: "DELETE" })).status).toBe(403);
});

test("a token for a run that is not there reaches none whose id begins like it", async () => {
  await at.json("/api/v1/runs", { body: { id: "550001" } });
  expect((await at.request("/api/v1/runs/55")).status).toBe(200);
  expect((await at.request("/api/v1/runs/55", { token: at.trust.tokens.ofRun("55") })).status).toBe(404);
});

test("a run id with underscores or dots does not confuse its token", async () => {
  for (const id of ["a_b", "a.b_c-d", "x_run_y"]) {
    const token = at.trust.tokens.ofRun(id);
    expect(at.trust.tokens.verify(token)).toEqual({ scope: "run", run: id });
    expect((await at.request("/api/v1/runs", { token, body: { id } })).status).toBe(201);
  }
});

describe("signing in", () => {
  async function signIn(host = "localhost:7070"): Promise<{ status: number; cookie: string }> {
    const { code } = await at.json("/api/v1/sign-in-codes", { method: "POST", headers: { host } });
    const response = await at.app.request(`/sign-in?code=${code}`, { headers: { host } });
    return { status: response.status, cookie: response.headers.get("set-cookie") ?? "" };
  }
  const value = (cookie: string) => cookie.split(";")[0]!;

  test("a code becomes a cookie that reads, and steers runs, and does nothing else", async () => {
    const { status, cookie } = await signIn();
    expect(status).toBe(303);
    expect(cookie).toMatch(/^binnacle_7070=[^;]+; Path=\/; HttpOnly; SameSite=Strict; Max-Age=\d+$/);
    const headers = { host: "localhost:7070", cookie: value(cookie) };
    expect((await at.app.request("/api/v1/runs", { headers })).status).toBe(200);
    expect((await at.app.request("/", { headers })).status).toBe(200);
    // A page of ours says where it comes from; a request that does not is not from a browser.
    expect((await at.app.request("/api/v1/runs/1", { method: "DELETE", headers })).status).toBe(401);
    const page = { ...headers, origin: "http://localhost:7070", "sec-fetch-site": "same-origin" };
    expect((await at.app.request("/api/v1/runs/1", { method: "DELETE", headers: page })).status).toBe(409);
    for (const path of ["/runs", "/runs/1/records", "/shutdown", "/token/rotate", "/sign-in-codes"])
      expect((await at.app.request(`/api/v1${path}`, { method: "POST", headers: page })).status, path).toBe(
        403,
      );
  });

  test("a code works once", async () => {
    const { code } = await at.json("/api/v1/sign-in-codes", { method: "POST" });
    expect((await at.app.request(`/sign-in?code=${code}`)).status).toBe(303);
    expect((await at.app.request(`/sign-in?code=${code}`)).status).toBe(401);
    expect((await at.app.request("/sign-in?code=guess")).status).toBe(401);
    expect((await at.app.request("/sign-in")).status).toBe(401);
  });

  test("a code is worth nothing after 10 minutes, a cookie nothing after 30 days", async () => {
    let now = Date.now();
    const other = createTestCollector({ now: () => now });
    const { code } = await other.json("/api/v1/sign-in-codes", { method: "POST" });
    now += 10 * 60_000;
    expect((await other.app.request(`/sign-in?code=${code}`)).status).toBe(401);
    const { code: second } = await other.json("/api/v1/sign-in-codes", { method: "POST" });
    const response = await other.app.request(`/sign-in?code=${second}`);
    const cookie = value(response.headers.get("set-cookie")!);
    expect((await other.app.request("/api/v1/runs", { headers: { cookie } })).status).toBe(200);
    now += 30 * 24 * 3600_000;
    expect((await other.app.request("/api/v1/runs", { headers: { cookie } })).status).toBe(401);
    await other.close();
  });

  test("the cookie of one port is not taken on another", async () => {
    const { cookie } = await signIn("localhost:7070");
    const headers = { host: "localhost:7171", cookie: value(cookie) };
    expect((await at.app.request("/api/v1/runs", { headers })).status).toBe(401);
  });

  test("a cookie with another date is not taken", async () => {
    const { cookie } = await signIn();
    const forged = value(cookie).replace(/=\d+/, `=${Date.now() + 1e12}`);
    const headers = { host: "localhost:7070", cookie: forged };
    expect((await at.app.request("/api/v1/runs", { headers })).status).toBe(401);
  });

  test("rotating the token ends every token, cookie and code", async () => {
    const other = createTestCollector();
    const before = other.trust.tokens;
    const { code } = await other.json("/api/v1/sign-in-codes", { method: "POST" });
    const { code: unused } = await other.json("/api/v1/sign-in-codes", { method: "POST" });
    const response = await other.app.request(`/sign-in?code=${code}`);
    const cookie = value(response.headers.get("set-cookie")!);
    const { token } = await other.json("/api/v1/token/rotate", { method: "POST" });
    for (const old of [before.admin, before.read, before.write, before.ofRun("1")])
      expect((await other.request("/api/v1/runs/1", { token: old })).status).toBe(401);
    expect((await other.app.request("/api/v1/runs", { headers: { cookie } })).status).toBe(401);
    expect((await other.app.request(`/sign-in?code=${unused}`)).status).toBe(401);
    expect((await other.request("/api/v1/runs", { token })).status).toBe(200);
    await other.close();
  });
});

describe("headers", () => {
  test("every page has the policy, and nothing inline that it would forbid", async () => {
    for (const path of ["/", "/runs/1", "/runs/1/metrics", "/runs/1/logs", "/python/"]) {
      const response = await at.request(path, { headers: { accept: "text/html" } });
      expect(response.status, path).toBe(200);
      const policy = response.headers.get("content-security-policy");
      expect(policy, path).toContain(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:",
      );
      expect(policy).toContain("frame-ancestors 'none'; base-uri 'none'; form-action 'self'");
      const html = await response.text();
      expect(html).not.toMatch(
        /<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=|javascript:|https?:\/\/(?!localhost)/i,
      );
    }
  });

  test("a person without a cookie gets a page that says how to sign in", async () => {
    const response = await at.request("/", { token: null, headers: { accept: "text/html" } });
    expect(response.status).toBe(401);
    expect(response.headers.get("content-type")).toStartWith("text/html");
    expect(await response.text()).toContain("binnacle open");
  });

  test("data may do nothing in a browser, and is not kept by one", async () => {
    const response = await at.request("/api/v1/runs");
    expect(response.headers.get("content-security-policy")).toBe("default-src 'none'; sandbox");
    expect(response.headers.get("cache-control")).toBe("no-store");
    expect(response.headers.get("referrer-policy")).toBe("same-origin");
  });
});
