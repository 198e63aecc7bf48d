import { Readable } from "node:stream";
import type { Packets } from "./broker-packets.ts";

interface ClientLike {
  id: string;
}
interface PacketLike {
  cmd: string;
  messageId?: number;
}

/**
 * What aedes keeps of sessions: only which packets wait for their PUBREL. Every session is a clean one and nothing is retained, so
 * there is nobody to keep messages for.
 */
export class BrokerStore {
  readonly #packets: Packets;
  /** Publishes just taken, which aedes is yet to hand to subscribers. */
  readonly #fresh: WeakSet<object>;

  constructor(packets: Packets, fresh: WeakSet<object>) {
    this.#packets = packets;
    this.#fresh = fresh;
  }

  async setup(): Promise<void> {}

  /** For a PUBLISH: rejects where it is new. For a PUBREL: where none waits for it. */
  async incomingGetPacket(client: ClientLike, packet: PacketLike): Promise<PacketLike> {
    const isKnown =
      packet.cmd === "publish"
        ? !this.#fresh.delete(packet)
        : this.#packets.isHeld(client.id, packet.messageId!);
    if (!isKnown) throw NONE;
    return packet;
  }
  /** It is in the database already. */
  async incomingStorePacket(): Promise<void> {}
  async incomingDelPacket(client: ClientLike, packet: PacketLike): Promise<void> {
    this.#packets.release(client.id, packet.messageId!);
  }
  /** What a client got no answer to it sends again in its next, clean session. */
  async cleanIncoming(): Promise<void> {}

  async storeRetained(): Promise<void> {}
  createRetainedStream = (): Readable => Readable.from([]);
  createRetainedStreamCombi = (): Readable => Readable.from([]);
  async addSubscriptions(): Promise<void> {}
  async removeSubscriptions(): Promise<void> {}
  async subscriptionsByClient(): Promise<never[]> {
    return [];
  }
  async subscriptionsByTopic(): Promise<never[]> {
    return [];
  }
  async cleanSubscriptions(): Promise<void> {}
  async countOffline(): Promise<{ subsCount: number; clientsCount: number }> {
    return { subsCount: 0, clientsCount: 0 };
  }
  async outgoingEnqueue(): Promise<void> {}
  async outgoingEnqueueCombi(): Promise<void> {}
  async outgoingUpdate(): Promise<void> {}
  async outgoingClearMessageId(): Promise<void> {}
  outgoingStream = (): Readable => Readable.from([]);
  async putWill(): Promise<void> {}
  async getWill(): Promise<void> {}
  async delWill(): Promise<void> {}
  streamWill = (): Readable => Readable.from([]);
  getClientList = (): Readable => Readable.from([]);
  async destroy(): Promise<void> {}
}

/** Made once: a new message throws it each time. */
const NONE = new Error("no such packet");
