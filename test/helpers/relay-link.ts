import { hostname } from "node:os";
import type { Collector } from "../../src/collector.ts";
import { CollectorError } from "../../src/error.ts";
import { deliver, type DeliveryStatus } from "../../src/relay/deliver.ts";
import { createDestinations, holderOf } from "../../src/relay/destinations.ts";
import { decodeFrames, encodeFrames } from "../../src/relay/frame.ts";
import { historyOf, historyParts } from "../../src/relay/history.ts";
import { createOutbox } from "../../src/relay/outbox.ts";
import { Refusal, type Clock, type Transport } from "../../src/relay/ports.ts";
import { greetSource } from "../../src/source/greet.ts";
import { positionsOf, receiveBatch, receiveHistory } from "../../src/source/receive.ts";
import { VERSION } from "../../src/version.ts";

export interface Link {
  status(): DeliveryStatus;
  /** All that is in the source's journal has arrived. */
  upToDate(): Promise<void>;
  /** Pieces of history that were sent, by what they are of. */
  pieces: { of: string; from: number; to: number; frames: number }[];
  close(): Promise<void>;
  /** And nothing of it is kept. */
  remove(): Promise<void>;
}

export interface LinkOptions {
  name?: string;
  from?: "history" | "now";
  /** Called before each request; may throw, as a network does. */
  onRequest?: (what: "greet" | "send" | "positions" | "history") => void | Promise<void>;
  path?: () => string[];
}

const clock: Clock = {
  monotonic: () => performance.now(),
  now: Date.now,
  sleep: (ms, signal) =>
    new Promise((resolve) => {
      if (signal.aborted) return resolve();
      const done = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, Math.min(ms, 2 ** 30));
      signal.addEventListener("abort", done);
    }),
};

/** A relay from one collector to another within this process: everything is real but for the network. */
export function createLink(
  source: Collector,
  platform: Collector,
  {
    name = "platform",
    from = "history",
    onRequest = () => {},
    path = () => [source.installation.id],
  }: LinkOptions = {},
): Link {
  const destinations = createDestinations(source.connection, source.dataDir);
  if (!destinations.get(name))
    destinations.add({
      name,
      kind: "platform",
      url: "http://127.0.0.1:1",
      from,
      created: source.now(),
      skip: from === "now" ? source.journal.position().seq : 0,
    });
  const pieces: Link["pieces"] = [];
  const outbox = createOutbox({
    collector: source,
    destination: name,
    history: {
      parts: (runs) => historyParts(source, runs),
      of: (part, from, bounds, single) => historyOf(source, part, from, bounds, { single: single === true }),
    },
  });
  const sender = (id: string) => ({ id, name: "box", sentAt: Date.now() });
  const ask = async <T>(what: Parameters<typeof onRequest>[0], work: () => Promise<T>): Promise<T> => {
    await onRequest(what);
    try {
      return await work();
    } catch (error) {
      throw error instanceof CollectorError ? toRefusal(error) : error;
    }
  };
  const throughWire = <T extends { frames: Parameters<typeof encodeFrames>[0] }>(batch: T) => ({
    ...batch,
    frames: decodeFrames(encodeFrames(batch.frames)),
  });
  const transport: Transport = {
    greet: (id, hello) => ask("greet", () => greetSource(platform, "box", id, hello)),
    send: (id, batch) => ask("send", () => receiveBatch(platform, sender(id), throughWire(batch))),
    positions: (id, session, parts) =>
      ask("positions", () => positionsOf(platform, sender(id), session, parts)),
    sendHistory: (id, batch) =>
      ask("history", () => {
        const { part, from, to, frames } = batch;
        pieces.push({ of: part.of, from, to, frames: frames.length });
        return receiveHistory(platform, sender(id), throughWire(batch));
      }),
  };
  const ending = new AbortController();
  let status: DeliveryStatus | undefined;
  let look = () => {};
  const ended = deliver(
    {
      outbox,
      transport,
      clock,
      random: () => 0,
      path,
      facts: { host: hostname(), version: VERSION },
      onChange(next) {
        status = next;
        look();
      },
    },
    ending.signal,
  );
  async function close() {
    ending.abort();
    await ended;
    outbox.close();
  }
  return {
    status: () => status!,
    pieces,
    upToDate: () =>
      new Promise((resolve, reject) => {
        look = () => {
          // What is wrong for so long is no passing trouble.
          const isStuck = status?.state === "paused" || (status?.attempts ?? 0) > 50;
          if (isStuck) reject(new Error(status?.error?.message));
          else if (status && status.acked >= source.journal.position().seq) resolve();
        };
        look();
      }),
    close,
    async remove() {
      await close();
      destinations.remove(name, undefined);
      source.journal.hold(holderOf(name), undefined);
    },
  };
}

function toRefusal({ code, message, details = {}, hint }: CollectorError): Refusal {
  const status = { invalid: 422, "too-large": 413, epoch: 412, "unknown-run": 422, "unknown-kind": 422 }[
    code as string
  ];
  return new Refusal(status ?? (code === "internal" ? 500 : 409), code, message, {
    details: { ...details, hint },
  });
}
