import { createHash } from "node:crypto";

/** Packets a client that are remembered behind their PUBREL: it sends them again where it never saw our PUBCOMP. */
const MAX_RELEASED = 256;
const MAX_CLIENTS = 10_000;

export interface QosPacket {
  messageId?: number | undefined;
  topic: string;
  payload: string | Buffer;
  dup?: boolean;
}

interface Taken {
  connection: object;
  digest: string;
  /** The commit; rejected where it failed, and then forgotten. */
  done: Promise<void>;
  released: boolean;
}

/**
 * Which packets were taken, by client and packet id. Within a connection one that comes again before its PUBREL is a repetition. In
 * a new one (FedML's clients ask for clean sessions, but send again what they got no answer to) it is one only where the message is
 * the same: a new process may well begin with the same numbers.
 */
export interface Packets {
  /** Calls `take` unless the packet is known. The promise: of the commit, now or before. */
  once(
    connection: object,
    client: string,
    packet: QosPacket,
    take: () => Promise<void>,
  ): { isNew: boolean; done: Promise<void> };
  isHeld(client: string, id: number): boolean;
  release(client: string, id: number): void;
}

export function createPackets(): Packets {
  const takenByClient = new Map<string, Map<number, Taken>>();

  function find(client: string): Map<number, Taken> {
    let taken = takenByClient.get(client);
    if (!taken) {
      if (takenByClient.size >= MAX_CLIENTS) takenByClient.delete(takenByClient.keys().next().value!);
      takenByClient.set(client, (taken = new Map()));
    }
    return taken;
  }

  return {
    once(connection, client, packet, take) {
      const byId = find(client);
      const id = packet.messageId!;
      const known = byId.get(id);
      const digest = digestOf(packet);
      const isRepeated =
        known !== undefined &&
        ((known.connection === connection && !known.released) ||
          // Not all clients say so (DUP) where they had no PUBREC.
          (known.digest === digest && (!known.released || packet.dup === true)));
      if (isRepeated) {
        // It waits for its PUBREL once more.
        known.connection = connection;
        known.released = false;
        return { isNew: false, done: known.done };
      }
      const taken: Taken = { connection, digest, done: take(), released: false };
      byId.delete(id);
      byId.set(id, taken);
      taken.done.catch(() => {
        if (byId.get(id) === taken) byId.delete(id);
      });
      return { isNew: true, done: taken.done };
    },
    isHeld: (client, id) => takenByClient.get(client)?.get(id)?.released === false,
    release(client, id) {
      const byId = takenByClient.get(client);
      const taken = byId?.get(id);
      if (!byId || !taken) return;
      taken.released = true;
      if (byId.size <= MAX_RELEASED) return;
      const [oldest, { released }] = byId.entries().next().value!;
      if (released) byId.delete(oldest);
    },
  };
}

const digestOf = ({ topic, payload }: QosPacket) =>
  createHash("sha1").update(topic).update("\0").update(payload).digest("latin1");
