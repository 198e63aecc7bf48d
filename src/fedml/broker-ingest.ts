import { CollectorError, type ErrorCode } from "../error.ts";
import { mayHoldApiKeys, withoutApiKeys } from "./api-key-members.ts";
import { countOf, type FedmlCounts } from "./counts.ts";
import { parseFedmlJson } from "./json.ts";
import type { FedmlScope } from "./keys.ts";
import { createTopicTable, type FedmlTopic } from "./topic.ts";

interface Publish {
  topic: string;
  payload: string | Buffer;
  dup?: boolean;
}

export interface Ingest {
  /** Resolves when the message is durable, or is none that we keep. Rejects where the client should send it again. */
  (packet: Publish, scope: FedmlScope, client: string): Promise<void>;
  /** Resolves when nothing is under way. */
  settled(): Promise<void>;
}

export interface IngestOptions {
  topics: readonly FedmlTopic[];
  counts: FedmlCounts;
  now: () => number;
  onDiagnostic: (text: string) => void;
}

/** It is not the message's fault: it is welcome later. */
const LATER: ReadonlySet<ErrorCode> = new Set(["busy", "disk-full", "damaged", "unreachable", "internal"]);
/** A fault of ours is said, but not for each of a thousand messages. */
const SAY_EVERY = 60_000;

/** What a run's clients, servers and agents say to each other: they get it, and nothing of it is ours. */
const BETWEEN_CLIENTS = /^fedml_\d|^fl(?:server|client)_agent\//;

/** Bodies are JSON text; what is not UTF-8 is no message. */
const utf8 = new TextDecoder("utf-8", { fatal: true });

export function createIngest({ topics, counts, now, onDiagnostic }: IngestOptions): Ingest {
  const find = createTopicTable(topics);
  const underWay = new Set<Promise<void>>();
  let said = -Infinity;
  let unsaid = 0;

  async function take(
    { topic, payload, dup = false }: Publish,
    scope: FedmlScope,
    client: string,
  ): Promise<void> {
    const found = find(topic);
    if (found.length === 0) {
      if (!BETWEEN_CLIENTS.test(topic)) counts.add("unknown-topic");
      return;
    }
    try {
      const message = { topic, scope, payload: parse(payload), received: now(), again: dup, client };
      for (const { topic: one, match } of found) await one.receive({ ...message, match });
    } catch (error) {
      settle(error, topic);
    }
  }

  /** Throws again what the client is to send once more. */
  function settle(error: unknown, topic: string): void {
    if (!(error instanceof CollectorError)) say(error, topic);
    if (!isLater(error)) return counts.add(countOf(error) ?? "refused");
    throw error instanceof CollectorError
      ? error
      : new CollectorError("internal", "The message could not be taken.", { cause: error });
  }

  function say(error: unknown, topic: string): void {
    const time = now();
    if (time - said < SAY_EVERY) return void unsaid++;
    const more = unsaid > 0 ? ` (and ${unsaid} more since what was said last)` : "";
    onDiagnostic(`FedML, topic ${JSON.stringify(topic.slice(0, 200))}: ${causeOf(error)}${more}`);
    said = time;
    unsaid = 0;
  }

  const ingest = (packet: Publish, scope: FedmlScope, client: string) => {
    const taken = take(packet, scope, client);
    underWay.add(taken);
    const leave = () => void underWay.delete(taken);
    taken.then(leave, leave);
    return taken;
  };
  ingest.settled = async () => {
    while (underWay.size > 0) await Promise.allSettled(underWay);
  };
  return ingest;
}

/** Whether it may be taken when it comes again: a mistake in our code is made each time, and its client would never get on. */
function isLater(error: unknown): boolean {
  if (error instanceof CollectorError) return LATER.has(error.code);
  if (!(error instanceof Error)) return false;
  if (error.cause !== undefined) return isLater(error.cause);
  const { code = "" } = error as NodeJS.ErrnoException;
  // libSQL says that its connection was closed by a TypeError.
  return isOfStore(String(code)) || error.message === "The database connection is not open";
}

/** Codes of the database and the system, but those for values that it won't take. */
const isOfStore = (code: string) =>
  /^(?:SQLITE_|E[A-Z0-9]+$)/.test(code) && !/^SQLITE_(CONSTRAINT|MISMATCH|TOOBIG|RANGE|MISUSE)/.test(code);

/** What was at the bottom of it: drizzle's own errors hold the statement and its values. */
const causeOf = (error: unknown): string =>
  error instanceof Error && error.cause !== undefined ? causeOf(error.cause) : String(error).slice(0, 500);

function parse(payload: string | Buffer): unknown {
  if (payload.length === 0) return undefined;
  const text = typeof payload === "string" ? payload : decode(payload);
  const parsed = parseFedmlJson(text);
  return mayHoldApiKeys(text) ? withoutApiKeys(parsed) : parsed;
}

function decode(payload: Buffer): string {
  try {
    return utf8.decode(payload);
  } catch (error) {
    throw new CollectorError("invalid", "The message is no UTF-8.", { cause: error });
  }
}
