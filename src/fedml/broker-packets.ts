import { createHash } from "node:crypto";

/** Packets of a client, at least, that are remembered behind their PUBREL: it sends them again where it never saw our PUBCOMP. */
const MAX_RELEASED = 128;
const MAX_CLIENTS = 10_000;
/** Of all clients together, some 30 MB: more than the 65,535 that one can have open, which so never costs itself. */
const MAX_PACKETS = 200_000;
/** Who was not heard of for so long sends nothing again. */
const FORGET_AFTER = 15 * 60_000;
const LOOK_EVERY = 60_000;
/** What was committed holds no promise of its own. */
const COMMITTED = Promise.resolve();

export interface QosPacket {
  messageId?: number | undefined;
  topic: string;
  payload: string | Buffer;
  dup?: boolean;
}

interface Taken {
  digest: string;
  /** The commit; rejected where it failed, and then forgotten. */
  done: Promise<void>;
}

/** By packet id. */
interface OfClient {
  open: Map<number, Taken>;
  /** Behind their PUBREL, in two generations. */
  released: Map<number, Taken>;
  older: Map<number, Taken>;
  /** How many of these are counted. */
  size: number;
  /** When it was last heard of. */
  at: number;
}

/**
 * Which packets were taken, by client and packet id, and by their content: one that comes again before its PUBREL, or says that it
 * does (DUP), is a repetition only where the message is the same. FedML's clients ask for clean sessions and still send again in
 * the next one what they got no answer to; a new process may begin with the same numbers.
 */
export interface Packets {
  /** Calls `take` unless the packet is known. The promise: of the commit, now or before. */
  once(client: string, packet: QosPacket, take: () => Promise<void>): { isNew: boolean; done: Promise<void> };
  isHeld(client: string, id: number): boolean;
  release(client: string, id: number): void;
  /** How many are remembered. */
  readonly size: number;
}

export function createPackets(now: () => number = () => performance.now()): Packets {
  /** The one that was silent longest comes first. */
  const byClient = new Map<string, OfClient>();
  let size = 0;
  let looked = now();

  function find(client: string): OfClient {
    const of = byClient.get(client) ?? {
      open: new Map(),
      released: new Map(),
      older: new Map(),
      size: 0,
      at: 0,
    };
    of.at = now();
    byClient.delete(client);
    byClient.set(client, of);
    if (byClient.size > MAX_CLIENTS) forgetFirst();
    if (of.at - looked >= LOOK_EVERY) {
      looked = of.at;
      for (const { at } of byClient.values()) {
        if (of.at - at < FORGET_AFTER) break;
        forgetFirst();
      }
    }
    return of;
  }

  function forgetFirst(): void {
    const [client, of] = byClient.entries().next().value!;
    byClient.delete(client);
    size -= of.size;
  }

  function count(client: string, of: OfClient): void {
    if (byClient.get(client) !== of) return;
    const counted = of.open.size + of.released.size + of.older.size;
    size += counted - of.size;
    of.size = counted;
    while (size > MAX_PACKETS) forgetFirst();
  }

  return {
    once(client, packet, take) {
      const of = find(client);
      const { open } = of;
      const id = packet.messageId!;
      const digest = digestOf(packet);
      // Not all clients say that it comes again (DUP) where they had no PUBREC.
      const known = open.get(id) ?? (packet.dup ? (of.released.get(id) ?? of.older.get(id)) : undefined);
      if (known?.digest === digest) {
        // It waits for its PUBREL once more.
        open.set(id, known);
        count(client, of);
        return { isNew: false, done: known.done };
      }
      const done = take();
      const taken: Taken = { digest, done };
      open.set(id, taken);
      count(client, of);
      done.then(
        () => {
          taken.done = COMMITTED;
        },
        () => {
          // A client may send its PUBREL without waiting for us.
          for (const packets of [of.open, of.released, of.older])
            if (packets.get(id) === taken) packets.delete(id);
          count(client, of);
        },
      );
      return { isNew: true, done };
    },
    isHeld: (client, id) => byClient.get(client)?.open.has(id) === true,
    release(client, id) {
      const of = byClient.get(client);
      const taken = of?.open.get(id);
      if (!of || !taken) return;
      of.open.delete(id);
      if (of.released.size >= MAX_RELEASED) {
        of.older = of.released;
        of.released = new Map();
      }
      of.released.set(id, taken);
      count(client, of);
    },
    get size() {
      return size;
    },
  };
}

const digestOf = ({ topic, payload }: QosPacket) =>
  createHash("sha1").update(topic).update("\0").update(payload).digest("latin1");
