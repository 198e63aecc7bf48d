/** How destinations fare, in lines. */
import type { Connection } from "../client/typescript/connection.ts";
import { requestJson } from "../client/typescript/http.ts";
import { CollectorError } from "../error.ts";
import type { Relay, RelayList } from "../relay/schema.ts";
import { oneLine } from "./cells.ts";
import { ANSWER_WITHIN_MS } from "./connect.ts";
import { age, bytes } from "./units.ts";

const SETTLE_MS = 5000;
const LOOK_MS = 100;

export const listRelays = (connection: Connection): Promise<RelayList> =>
  requestJson<RelayList>(connection, "/api/v1/relays", { timeout: ANSWER_WITHIN_MS });

export const relayPath = (name: string, rest = "") => `/api/v1/relays/${encodeURIComponent(name)}${rest}`;

export function findRelay({ relays }: RelayList, name: string): Relay {
  const relay = relays.find((one) => one.name === name);
  if (relay) return relay;
  throw new CollectorError("not-found", `There is no destination ${oneLine(name)}.`, {
    hint: "See `binnacle relay status` for those there are.",
  });
}

/** How it fares once the attempt that was just caused is over; after a while, how it fares then. */
export async function settledRelay(connection: Connection, name: string, before?: Relay): Promise<Relay> {
  const until = Date.now() + SETTLE_MS;
  for (;;) {
    const relay = findRelay(await listRelays(connection), name);
    const isTrying =
      relay.state === "starting" ||
      (before !== undefined && relay.error !== null && relay.error.at === before.error?.at);
    if (!isTrying || Date.now() > until) return relay;
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

const words: Record<Relay["state"], string> = {
  starting: "connecting",
  history: "sending what was kept before",
  sending: "sending",
  idle: "up to date",
  waiting: "waiting to try again",
  paused: "paused",
  "in-use": "its id is in use elsewhere",
};

/** Versions arrive before their files do. */
export const stateOf = ({ state, content }: Relay): string =>
  state === "idle" && (content?.files ?? 0) > 0 ? "sending files" : words[state];

/** What has not arrived. */
export function behindOf({ backlog, content }: Relay): string {
  const entries = backlog.entries === 1 ? "1 entry" : `${backlog.entries} entries`;
  const size = backlog.bytes === null || backlog.entries === 0 ? "" : ` (${bytes(backlog.bytes)})`;
  const files = content?.files
    ? `, ${content.files} ${content.files === 1 ? "file" : "files"} (${bytes(content.bytes ?? 0)})`
    : "";
  return `${backlog.entries === 0 && files !== "" ? "0 entries" : entries}${size}${files}`;
}

const FOREIGN: Record<Exclude<Relay["kind"], "platform">, string> = {
  otlp: "OpenTelemetry: at least once, from the journal alone.",
  fedml: "FedML: at least once. MQTT there is without TLS, and files are readable for all.",
};

/** What is wrong or worth knowing, and what to do: a line each. */
export function notesOf(relay: Relay, now = Date.now()): string[] {
  const { error, notice, attempts, next_try_at, dead_letters, dropped, content, history, name } = relay;
  const notes: string[] = [];
  if (relay.kind !== "platform") notes.push(FOREIGN[relay.kind]);
  if (error) notes.push(oneLine(error.message), ...(error.hint === null ? [] : [oneLine(error.hint)]));
  if (notice) notes.push(oneLine(notice.message));
  if (next_try_at !== null) {
    const wait = Math.max(0, Math.ceil((Date.parse(next_try_at) - now) / 1000));
    const failed = attempts === 0 ? "" : `${attempts === 1 ? "1 attempt" : `${attempts} attempts`} failed; `;
    notes.push(`${failed}${failed === "" ? "The next attempt is" : "the next one"} in ${wait} s.`);
  }
  if (history)
    notes.push(
      `History: ${history.done} of ${history.total ?? "?"} ${history.total === 1 ? "part" : "parts"} sent.`,
    );
  if (content?.error) notes.push(`Files: ${oneLine(content.error)}`);
  if (dead_letters > 0)
    notes.push(`${dead_letters} refused for good and kept: see \`binnacle relay dead-letters ${name}\`.`);
  if (dropped.records > 0)
    notes.push(`${dropped.records} records (${bytes(dropped.bytes)}) will never arrive there.`);
  return notes;
}

export const oldestOf = ({ backlog: { oldest } }: Relay, now = Date.now()): string =>
  oldest === null ? "-" : age(now - Date.parse(oldest));

export function rateOf({ rate }: Relay): string {
  if (rate === null) return "-";
  return `${rate.entries < 10 ? rate.entries.toFixed(1) : Math.round(rate.entries)}/s, ${bytes(rate.bytes)}/s`;
}
