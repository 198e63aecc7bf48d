import { request as requestHttp, type ClientRequest, type IncomingMessage } from "node:http";
import { request as requestHttps } from "node:https";
import type { StopRun } from "../../run/schema.ts";
import type { Connection } from "./connection.ts";
import { parseEvent } from "./events.ts";

export interface HeartbeatOptions {
  /** Asked before every attempt: a collector that was restarted may have another port or token. */
  connection: () => Pick<Connection, "url" | "token">;
  run: string;
  client: string;
  /** Someone stops the run. */
  onStop: (request: StopRun) => void;
  /** The run was deleted: nobody waits for this heartbeat any more. */
  onGone?: () => void;
}

const FIRST_RETRY_MS = 100;
/** Well within the ten seconds after which a run without a heartbeat has failed. */
const LAST_RETRY_MS = 2_000;
/** The collector pings every five seconds. */
const SILENCE_MS = 20_000;

/**
 * Holds a writer's one open connection, from whose end the collector learns that the process died. Over node:http, as
 * its socket can be told not to keep the process alive; a fetch would hold a script that has ended for ever. Returns the
 * function that ends it.
 */
export function holdHeartbeat({ connection, run, client, onStop, onGone }: HeartbeatOptions): () => void {
  let closed = false;
  let retryMs = FIRST_RETRY_MS;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let current: ClientRequest | undefined;

  function connect(): void {
    const { url, token } = connection();
    const path = `/api/v1/runs/${encodeURIComponent(run)}/heartbeat?client=${encodeURIComponent(client)}`;
    const headers = { accept: "text/event-stream", ...(token ? { authorization: `Bearer ${token}` } : {}) };
    let over = false;
    const again = () => {
      if (over) return;
      over = true;
      current?.destroy();
      retry();
    };
    try {
      current = (url.startsWith("https:") ? requestHttps : requestHttp)(url + path, {
        headers,
        agent: false,
      });
    } catch {
      return retry();
    }
    current.on("socket", (socket) => socket.unref());
    current.setTimeout(SILENCE_MS, again);
    current.on("error", again);
    current.on("response", (response) => {
      response.on("end", again);
      response.on("error", again);
      response.on("close", again);
      if (response.statusCode === 410) {
        close();
        onGone?.();
      } else if (response.statusCode !== 200) again();
      else listen(response);
    });
    current.end();
  }

  function listen(response: IncomingMessage): void {
    let pending = "";
    response.setEncoding("utf8");
    response.on("data", (chunk: string) => {
      retryMs = FIRST_RETRY_MS;
      const blocks = (pending + chunk).split("\n\n");
      pending = blocks.pop()!;
      for (const block of blocks) {
        const event = parseEvent(block);
        if (event?.event === "stop") onStop(JSON.parse(event.data) as StopRun);
      }
    });
  }

  function retry(): void {
    if (closed) return;
    timer = setTimeout(connect, retryMs * (0.75 + Math.random() / 2));
    timer.unref();
    retryMs = Math.min(retryMs * 2, LAST_RETRY_MS);
  }

  function close(): void {
    closed = true;
    clearTimeout(timer);
    current?.destroy();
  }

  connect();
  return close;
}
