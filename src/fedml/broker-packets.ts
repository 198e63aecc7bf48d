import { createHash } from "node:crypto";

/** Packets of a client, at least, that are remembered behind their PUBREL: it sends them again where it never saw our PUBCOMP. */
const MAX_RELEASED = 128;
const MAX_CLIENTS = 10_000;

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
}

export function createPackets(): Packets {
  const byClient = new Map<string, OfClient>();

  function find(client: string): OfClient {
    let of = byClient.get(client);
    if (!of) {
      if (byClient.size >= MAX_CLIENTS) byClient.delete(byClient.keys().next().value!);
      byClient.set(client, (of = { open: new Map(), released: new Map(), older: new Map() }));
    }
    return of;
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
        return { isNew: false, done: known.done };
      }
      const taken: Taken = { digest, done: take() };
      open.set(id, taken);
      taken.done.catch(() => {
        if (open.get(id) === taken) open.delete(id);
      });
      return { isNew: true, done: taken.done };
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
    },
  };
}

const digestOf = ({ topic, payload }: QosPacket) =>
  createHash("sha1").update(topic).update("\0").update(payload).digest("latin1");
