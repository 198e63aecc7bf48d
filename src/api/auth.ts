import { randomBytes } from "node:crypto";
import { CollectorError } from "../error.ts";
import { RELAY_PATH } from "../relay/contract.ts";
import { SOURCE_TOKEN } from "../source/tokens.ts";
import { createTokens, isEqual, type Access, type Tokens } from "../token.ts";

const CODE_LIFETIME = 10 * 60 * 1000;
const COOKIE_LIFETIME = 30 * 24 * 3600 * 1000;
const MAX_CODES = 100;
const LOOPBACK_HOSTS = ["localhost", "127.0.0.1", "[::1]"];

/** Who may come in, and as what. */
export interface Trust {
  readonly tokens: Tokens;
  /** Takes up a new admin token: every other token and every cookie ends with the old one. */
  rotate(admin: string): void;
  /** Throws unless the request comes from where it should and its caller may do it. */
  admit(request: Request): Access | undefined;
  /** Throws unless it comes from where it should: for who shows by other means that it may do it. */
  admitSite(request: Request): void;
  /** Who else may come in by a token: those that were given out to sources. */
  acceptSources(verify: (token: string) => Access | undefined): void;
  /** A code for one sign-in within 10 minutes. */
  createCode(): string;
  /** The cookie that a code is exchanged for, as a Set-Cookie header; undefined where the code is used up or too old. */
  redeemCode(code: string, request: Request): string | undefined;
}

export interface TrustOptions {
  admin: string;
  /** Names besides the loopback ones that a Host header may give. */
  hosts?: string[];
  now: () => number;
  /** Cookies only over TLS. */
  secure?: boolean;
}

export function createTrust({ admin, hosts = [], now, secure = false }: TrustOptions): Trust {
  let tokens = createTokens(admin);
  const names = new Set([...LOOPBACK_HOSTS, ...hosts.map((host) => host.toLowerCase())]);
  const expiryByCode = new Map<string, number>();
  let verifySource: (token: string) => Access | undefined = () => undefined;

  function accessOf(request: Request): Access | undefined {
    const authorization = request.headers.get("authorization");
    if (authorization !== null) {
      const token = /^Bearer +([\x21-\x7e]+) *$/i.exec(authorization)?.[1];
      if (token === undefined) return undefined;
      return token.startsWith(SOURCE_TOKEN) ? verifySource(token) : tokens.verify(token);
    }
    const cookie = cookieOf(request);
    return cookie !== undefined && isCookieValid(cookie) && isFromPage(request)
      ? { scope: "dashboard" }
      : undefined;
  }

  function isCookieValid(cookie: string): boolean {
    const [expires = "", nonce = "", signature = ""] = cookie.split(".");
    return isEqual(signature, tokens.sign(`cookie ${expires}.${nonce}`)) && Number(expires) > now();
  }

  return {
    get tokens() {
      return tokens;
    },
    rotate(next) {
      tokens = createTokens(next);
      expiryByCode.clear();
    },
    admit(request) {
      const url = splitUrl(request.url);
      // A Host that is none leaves the server's URL without one.
      if (!url) throw misdirected();
      checkOrigin(request, url.host, names);
      checkPath(url.path);
      const need = needOf(request.method, url.path);
      const access = accessOf(request);
      if (need.scope === "none") return access;
      if (!access && need.scope === "source")
        throw new CollectorError("unauthorized", "The token is none of this platform's, or no longer.", {
          hint: "Ask for a new one: the platform's admin makes it with `binnacle source add NAME`.",
        });
      if (!access)
        throw new CollectorError("unauthorized", "This needs a valid token.", {
          hint: "Send Authorization: Bearer <token> (`binnacle token` prints it), or sign in with `binnacle open`.",
        });
      if (!isEnough(access, need))
        throw new CollectorError("forbidden", `A ${access.scope} token may not do this.`, {
          hint: "Use a token that reaches further; `binnacle token` prints the admin's.",
        });
      return access;
    },
    admitSite(request) {
      const url = splitUrl(request.url);
      if (!url) throw misdirected();
      checkOrigin(request, url.host, names);
    },
    acceptSources(verify) {
      verifySource = verify;
    },
    createCode() {
      const code = randomBytes(24).toString("base64url");
      // Oldest first: a Map keeps the order of insertion.
      if (expiryByCode.size >= MAX_CODES) expiryByCode.delete(expiryByCode.keys().next().value!);
      expiryByCode.set(code, now() + CODE_LIFETIME);
      return code;
    },
    redeemCode(code, request) {
      const expiry = expiryByCode.get(code);
      expiryByCode.delete(code);
      if (expiry === undefined || expiry <= now()) return undefined;
      const value = `${now() + COOKIE_LIFETIME}.${randomBytes(16).toString("hex")}`;
      const cookie = `${cookieName(request)}=${value}.${tokens.sign(`cookie ${value}`)}`;
      const age = COOKIE_LIFETIME / 1000;
      return `${cookie}; Path=/; HttpOnly; SameSite=Strict; Max-Age=${age}${secure ? "; Secure" : ""}`;
    },
  };
}

/**
 * The Host must be a name of ours: with DNS rebinding a foreign page is same-origin with us to the browser, and only this
 * header still tells. Origin must be that very host and port; browsers that say where a request comes from are believed.
 */
function checkOrigin(request: Request, urlHost: string, names: Set<string>): void {
  const host = request.headers.get("host") ?? urlHost;
  const name = /^(\[[0-9a-f:.]+\]|[^\s:/?#@[\]\\]+)(?::\d{1,5})?$/i.exec(host)?.[1]?.toLowerCase();
  if (name === undefined || !names.has(name)) throw misdirected();
  const origin = request.headers.get("origin");
  if (origin !== null && !isSameHost(origin, host))
    throw new CollectorError("forbidden", "Requests from other sites are refused.", {
      hint: "Open the dashboard under the name that the link gives.",
    });
  const site = request.headers.get("sec-fetch-site");
  if (site !== null && site !== "same-origin" && site !== "none" && !isNavigation(request, site))
    throw new CollectorError("forbidden", "Requests from other sites are refused.", {
      hint: "Open the dashboard by its own link.",
    });
}

const misdirected = () =>
  new CollectorError("misdirected", "This collector does not answer to that host name.", {
    hint: "Use localhost or 127.0.0.1, or start it with --allow-host NAME.",
  });

/** Two ports of one machine are the same site to a browser: a link from there may open a page, nothing more. */
const isNavigation = (request: Request, site: string) =>
  site === "same-site" && request.method === "GET" && request.headers.get("sec-fetch-mode") === "navigate";

function isSameHost(origin: string, host: string): boolean {
  const match = /^https?:\/\/([^/]+)$/i.exec(origin);
  return match !== null && match[1]!.toLowerCase() === host.toLowerCase();
}

/** Middleware and router may read such a path in two ways (CVE-2026-39407, CVE-2026-29045), and no route of ours has one. */
function checkPath(path: string): void {
  if (/\/\/|%|;|\\|\/\.{1,2}(?:\/|$)|[^\x21-\x7e]/.test(path))
    throw new CollectorError("invalid", "That is no path of this collector.", {
      hint: "Ids are letters, digits, '.', '_' and '-'; give names in the query or the body.",
    });
}

/** The path as it came: a URL object would have tidied away what checkPath looks for. */
function splitUrl(url: string): { host: string; path: string } | undefined {
  const match = /^https?:\/\/([^/?#]+)([^?#]*)/i.exec(url);
  return match ? { host: match[1]!, path: match[2] || "/" } : undefined;
}

type Scope = "none" | "read" | "write" | "edit" | "manage" | "admin" | "source";

/** What a request needs; `run`: for that run. */
export interface Need {
  scope: Scope;
  run?: string;
  /** A run's token comes this far: the handler looks what it has to do with that run. */
  isLookedAt?: boolean;
}

/** Who may. A run's own token counts for that run alone. */
const allowedByScope: Record<Exclude<Scope, "none">, Access["scope"][]> = {
  read: ["read", "write", "run", "dashboard", "admin"],
  write: ["write", "run", "admin"],
  edit: ["write", "run", "dashboard", "admin"],
  manage: ["dashboard", "admin"],
  admin: ["admin"],
  // Nobody else may say what a source has: not even an admin.
  source: ["source"],
};

/** What a request needs. Whatever is not named here needs the most: a forgotten route stays shut. */
export function needOf(method: string, path: string): Need {
  const isRead = method === "GET" || method === "HEAD";
  if (path === RELAY_PATH || path.startsWith(`${RELAY_PATH}/`)) return { scope: "source" };
  if (isRead && isOpen(path)) return { scope: "none" };
  // No run's id: a run's own token reaches no other run, and an archive may hold any.
  if (method === "POST" && path === "/api/v1/runs/import") return { scope: "write" };
  const match = /^\/api\/v1\/runs\/([^/]+)(?:\/([^/]+))?$/.exec(path);
  if (!match) {
    if (method === "POST" && path === "/api/v1/runs") return { scope: "write", isLookedAt: true };
    // A new destination or token wants more than a browser's cookie.
    if (method === "POST" && /^\/api\/v1\/relays\/[^/]+\/(retry|dead-letters)$/.test(path))
      return { scope: "manage" };
    const need = needOfFiles(method, isRead, path);
    if (need) return need;
    return { scope: isRead ? "read" : "admin" };
  }
  const [, run = "", action] = match;
  if (isRead) return { scope: action === "heartbeat" || action === "fedml" ? "write" : "read", run };
  if (action === undefined) {
    if (method === "PATCH") return { scope: "edit", run };
    if (method === "DELETE") return { scope: "manage", run };
  }
  if (method === "POST") {
    if (action === "records" || action === "logs" || action === "spans" || action === "finish")
      return { scope: "write", run };
    if (action === "artifacts" || action === "inputs") return { scope: "write", run };
    if (action === "stop") return { scope: "manage", run };
  }
  return { scope: "admin", run };
}

/** Bytes have no run yet when they come; a run's token may bring them, and read the versions that the run logged or uses. */
function needOfFiles(method: string, isRead: boolean, path: string): Need | undefined {
  if (method === "POST" && /^\/api\/v1\/blobs\/(missing|pack|[^/]+\/(upload|commit))$/.test(path))
    return { scope: "write", isLookedAt: true };
  if (method === "PUT" && /^\/api\/v1\/blobs\/[^/]+\/chunks\/[^/]+$/.test(path))
    return { scope: "write", isLookedAt: true };
  if (method === "POST" && path === "/api/v1/artifacts") return { scope: "write" };
  // It only reads; the list of paths is too long for a query.
  if (method === "POST" && /^\/api\/v1\/artifacts\/[^/]+\/versions\/[^/]+\/pack$/.test(path))
    return { scope: "read", isLookedAt: true };
  const match = /^\/api\/v1\/artifacts\/[^/]+(?:\/versions\/[^/]+(\/[^/]+)?)?$/.exec(path);
  if (!match) return undefined;
  if (isRead) return { scope: "read", isLookedAt: path.includes("/versions/") && match[1] !== "/pack" };
  if (match[1] !== undefined) return undefined;
  if (method === "PATCH") return { scope: "edit" };
  return method === "DELETE" ? { scope: "manage" } : undefined;
}

/** Answered without a token. */
const isOpen = (path: string) =>
  path === "/healthz" ||
  path === "/sign-in" ||
  path === "/favicon.ico" ||
  path.startsWith("/assets/") ||
  path === "/python/" ||
  path.startsWith("/python/");

function isEnough(access: Access, { scope, run, isLookedAt = false }: Need): boolean {
  if (scope === "none") return true;
  if (!allowedByScope[scope].includes(access.scope)) return false;
  if (access.scope !== "run") return true;
  return run === access.run || isLookedAt;
}

/** Browsers say where a request comes from whenever it may change something: a cookie without that is no browser's. */
const isFromPage = (request: Request) =>
  request.method === "GET" || request.method === "HEAD" || request.headers.has("origin");

/** Browsers share cookies between ports, so each has its own: the port the browser sees, also through a tunnel. */
function cookieName(request: Request): string {
  const url = new URL(request.url);
  const host = request.headers.get("host") ?? url.host;
  const port = /:(\d+)$/.exec(host)?.[1] ?? (url.protocol === "https:" ? "443" : "80");
  return `binnacle_${port}`;
}

function cookieOf(request: Request): string | undefined {
  const name = cookieName(request);
  for (const pair of (request.headers.get("cookie") ?? "").split(";")) {
    const at = pair.indexOf("=");
    if (pair.slice(0, at).trim() === name) return pair.slice(at + 1).trim();
  }
  return undefined;
}
