import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import { startContent, type ContentStatus } from "./content.ts";
import type { Session } from "./contract.ts";
import { deliver, type DeliveryStatus } from "./deliver.ts";
import type { Destination, Destinations } from "./destinations.ts";
import { frameBytes } from "./frame.ts";
import { historyOf, historyParts } from "./history.ts";
import { createHttp } from "./http.ts";
import { createLetterBox } from "./letters.ts";
import { createOutbox } from "./outbox.ts";
import { Refusal, type Clock } from "./ports.ts";
import { createReport, type Report } from "./report.ts";
import { createTransport } from "./transport.ts";
import { toTrouble } from "./trouble.ts";

/** What goes on for one destination. None of them holds up another. */
export interface Lane extends Pick<Report, "status" | "ackedAt" | "rate" | "totals"> {
  backlog(): { entries: number; bytes: number | undefined; oldest: number | undefined };
  /** undefined: not known. */
  content(): ContentStatus | undefined;
  /** Does now what it waits to do. */
  retry(): void;
  /** Sends refused entries again; resolves with how many arrived. */
  requeue(ids: readonly number[] | undefined): Promise<number>;
  close(): Promise<void>;
}

export interface LaneOptions {
  collector: Collector;
  destination: Destination;
  destinations: Destinations;
  /** Installations that what is sent comes through, ours first. */
  path: () => string[];
  facts: { host: string; version: string };
  onChange: (status: DeliveryStatus) => void;
  onFailed: (error: unknown) => void;
}

/** One request's worth of entries that are sent again. */
const REQUEUE_ENTRIES = 100;
const REQUEUE_BYTES = 4 * 1024 * 1024;
/** Installations named in a request; all of them are looked through here. */
const MAX_PATH = 64;

export function startPlatformLane(options: LaneOptions): Lane {
  const { collector, destination, destinations, path, facts, onChange, onFailed } = options;
  const { name, url } = destination;
  const since = destination.from === "now" ? destination.created : undefined;
  const ending = new AbortController();
  const clock = createClock(collector.now);
  const report = createReport({ collector, destination, clock, onChange, onFailed });
  const letters = createLetterBox(collector, name);
  // Once: who renews a token starts the lane anew.
  const { token, ca } = destinations.secretsOf(name);
  const http = createHttp({ url, token: () => token, ca });
  const transport = createTransport(http, collector.now);
  let session: Session | undefined;

  const outbox = createOutbox({
    collector,
    destination: name,
    history: {
      parts: (runs) => historyParts(collector, runs, since),
      of: (part, from, bounds, single = false) => historyOf(collector, part, from, bounds, { single }),
    },
    maxHeldBytes: collector.quota.journalBytes(),
    onAcked: report.onAcked,
  });

  const content = startContent(
    { collector, http, source: () => collector.installation.id, clock, random: Math.random },
    ending.signal,
  );
  const delivery = report.persist(
    () =>
      deliver(
        {
          outbox,
          transport: { ...transport, greet },
          clock,
          random: Math.random,
          path: () => path().slice(0, MAX_PATH),
          facts,
          onChange: change,
        },
        ending.signal,
      ),
    ending.signal,
  );

  function change(next: DeliveryStatus): void {
    // A platform that had to be told all again may lack files, too.
    if (next.history && !report.status().history) content.again();
    report.change(next);
  }

  async function greet(...[source, hello, signal]: Parameters<typeof transport.greet>) {
    const cursor = await transport.greet(source, hello, signal);
    // It was set back, and its files with it.
    if (cursor.acked < report.status().acked) content.again();
    const { epoch, nonce, turn, path: way } = hello;
    session = { epoch, nonce, turn, path: way };
    if (path().includes(cursor.platform))
      throw new Refusal(409, "circle", "The platform is one of those whose data comes through here.");
    return cursor;
  }

  async function requeue(ids: readonly number[] | undefined): Promise<number> {
    let after = 0;
    let arrived = 0;
    let refused = "";
    for (;;) {
      const { state } = report.status();
      if (!session || state === "waiting" || state === "in-use")
        throw new CollectorError("unreachable", `${name} does not answer.`, {
          hint: "Send them again when `binnacle relay status` says that it does.",
        });
      const page = takePage(letters.frames(REQUEUE_ENTRIES, after, ids));
      if (page.length === 0) break;
      const frames = page.map(({ frame }) => frame);
      const { rejected } = await transport
        .requeue(collector.installation.id, { ...session, frames }, ending.signal)
        .catch((error) => {
          // A person waits for it, and it is the platform's or the network's word, no defect of ours.
          const { message, hint } = toTrouble(error, collector.now());
          throw new CollectorError("unreachable", message, { ...(hint !== null && { hint }), cause: error });
        });
      const bad = new Set(rejected.map(({ index }) => index));
      const good = page.filter((_, index) => !bad.has(index));
      letters.remove(good.map(({ id }) => id));
      arrived += good.length;
      refused = rejected.at(-1)?.detail ?? refused;
      after = page.at(-1)!.id;
    }
    if (arrived === 0 && refused !== "")
      throw new CollectorError("conflict", `${name} refused them again: ${refused}`, {
        hint: "Upgrade the platform, or give them up with --discard.",
      });
    return arrived;
  }

  return {
    ...report,
    backlog: outbox.backlog,
    content: () => content.status(),
    retry() {
      clock.wake();
      content.again();
    },
    requeue,
    async close() {
      ending.abort();
      await delivery;
      await content.ended;
      outbox.close();
    },
  };
}

/** The first of them that fit into one request. */
export function takePage<T extends { frame: Parameters<typeof frameBytes>[0] }>(letters: T[]): T[] {
  let bytes = 0;
  const end = letters.findIndex(({ frame }, index) => {
    bytes += frameBytes(frame);
    return index > 0 && bytes > REQUEUE_BYTES;
  });
  return end < 0 ? letters : letters.slice(0, end);
}

export interface WakingClock extends Clock {
  /** Whoever sleeps wakes up. */
  wake(): void;
}

export function createClock(now: () => number): WakingClock {
  const sleepers = new Set<() => void>();
  return {
    now,
    monotonic: () => performance.now(),
    sleep: (ms, signal) =>
      new Promise((resolve) => {
        const wake = () => {
          clearTimeout(timer);
          signal.removeEventListener("abort", wake);
          sleepers.delete(wake);
          resolve();
        };
        const timer = setTimeout(wake, ms);
        timer.unref?.();
        sleepers.add(wake);
        signal.addEventListener("abort", wake, { once: true });
        if (signal.aborted) wake();
      }),
    wake() {
      for (const wake of sleepers) wake();
    },
  };
}
