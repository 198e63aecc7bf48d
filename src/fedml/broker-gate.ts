import type { Socket } from "node:net";
import { Duplex } from "node:stream";

/** A message of a client: logs of a thousand lines are below a megabyte. */
export const MAX_PACKET = 16 * 1024 * 1024;
/** Who has not shown a password yet has no business with more. */
const MAX_CONNECT = 64 * 1024;
/** A packet larger than this counts against what all connections together may have half received. */
const LARGE = 64 * 1024;
const MAX_LARGE_TOGETHER = 64 * 1024 * 1024;
/** A packet that was begun must be whole within this, while it is the client that it waits for. */
const WHOLE_WITHIN = 60_000;
/** What waits for a client that does not read: from the first on nothing more is read from it, beyond the second it is cut off. */
const FULL = 256 * 1024;
const MAX_UNREAD = 4 * 1024 * 1024;
/** Read ahead of the broker: who leaves with our answers unread resets the connection, and what was not read then is lost. */
const MAX_AHEAD = 256 * 1024;
const CONNECT = 1;

export type GateEnd = "too-large" | "broken-off" | "slow" | "malformed";

/** What half received packets of all connections hold together. */
export interface GateShare {
  bytes: number;
}

/**
 * Stands between a socket and the broker, and sees to what the broker leaves to its connection: it looks at the length of each packet
 * before any of it is kept, holds back what comes behind CONNECT until that is accepted, hands on what was received though the
 * client has left since, and never lets a client that does not read hold up others.
 */
export class Gate extends Duplex {
  readonly #socket: Socket;
  readonly #share: GateShare;
  readonly #onRefused: (why: GateEnd) => void;
  readonly #wholeWithin: number;
  #held: Buffer[] = [];
  #heldBytes = 0;
  #isOpen = false;
  #isFirst = true;
  #ended = false;
  /** Bytes of the packet still to come; -1 while its length is being read. */
  #left = -1;
  #type = -1;
  #length = 0;
  #shift = 0;
  #large = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #wantsMore = true;

  constructor(
    socket: Socket,
    share: GateShare,
    onRefused: (why: GateEnd) => void,
    wholeWithin: number = WHOLE_WITHIN,
  ) {
    super({ allowHalfOpen: true, decodeStrings: false, readableHighWaterMark: MAX_AHEAD });
    this.#socket = socket;
    this.#share = share;
    this.#onRefused = onRefused;
    this.#wholeWithin = wholeWithin;
    socket.on("data", (chunk: Buffer) => this.#take(chunk));
    socket.on("end", () => this.#finish());
    socket.on("error", () => this.#finish());
    socket.on("close", () => this.#finish());
    socket.on("drain", () => this.#flow());
  }

  /** CONNECT was accepted. */
  open(): void {
    if (this.#isOpen) return;
    this.#isOpen = true;
    const held = this.#held;
    this.#held = [];
    for (const chunk of held) this.#pass(chunk);
    if (this.#ended) this.#pushEnd();
    else this.#flow();
  }

  override _read(): void {
    this.#wantsMore = true;
    this.#flow();
  }

  override _write(chunk: Buffer | string, encoding: BufferEncoding, done: () => void): void {
    this.#send(typeof chunk === "string" ? Buffer.from(chunk, encoding) : chunk);
    done();
  }

  override _writev(chunks: { chunk: Buffer | string; encoding: BufferEncoding }[], done: () => void): void {
    this.#send(
      Buffer.concat(
        chunks.map(({ chunk, encoding }) =>
          typeof chunk === "string" ? Buffer.from(chunk, encoding) : chunk,
        ),
      ),
    );
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#release();
    this.#held = [];
    const socket = this.#socket;
    if (!socket.destroyed) {
      // What it is told last, such as why it was refused, still goes out, if the client reads.
      if (socket.writableLength === 0) socket.end();
      const timer = setTimeout(() => socket.destroy(), error || socket.writableLength > 0 ? 1000 : 200);
      timer.unref();
      socket.once("close", () => clearTimeout(timer));
      socket.removeAllListeners("data");
      socket.resume();
    }
    done(null);
  }

  /** The broker is never told to wait: its delivery to others waits along. */
  #send(bytes: Buffer): void {
    const socket = this.#socket;
    if (socket.destroyed || !socket.writable) return;
    socket.write(bytes);
    if (socket.writableLength > MAX_UNREAD) this.#refuse("slow");
    else if (socket.writableLength > FULL) socket.pause();
  }

  #flow(): void {
    if (this.#ended || this.destroyed) return;
    // Read on while CONNECT is judged: who publishes and leaves at once, our answer unread, resets the connection, and with it goes
    // what was not read.
    const isWelcome = this.#wantsMore && (this.#isOpen || this.#heldBytes < MAX_CONNECT);
    if (isWelcome && this.#socket.writableLength <= FULL) this.#socket.resume();
    else this.#socket.pause();
    this.#time(isWelcome);
  }

  /** While we hold it up, as where the disk stalls, a client is not late. */
  #time(isWelcome: boolean): void {
    if (this.#type < 0 || !isWelcome) {
      clearTimeout(this.#timer);
      this.#timer = undefined;
    } else if (!this.#timer) {
      this.#timer = setTimeout(() => this.#refuse("broken-off"), this.#wholeWithin);
      this.#timer.unref();
    }
  }

  #take(chunk: Buffer): void {
    if (this.destroyed) return;
    const cut = this.#scan(chunk);
    if (cut < 0) return;
    if (this.#isOpen) this.#pass(chunk);
    else {
      if (cut > 0) this.#pass(chunk.subarray(0, cut));
      if (cut < chunk.length) {
        this.#held.push(chunk.subarray(cut));
        this.#heldBytes += chunk.length - cut;
      }
    }
    this.#flow();
  }

  #pass(chunk: Buffer): void {
    if (!this.push(chunk)) this.#wantsMore = false;
  }

  /** Follows the packets in a chunk; returns where the first packet of the connection ends in it, or -1 where it is refused. */
  #scan(chunk: Buffer): number {
    let at = 0;
    let cut = this.#isFirst ? chunk.length : 0;
    while (at < chunk.length) {
      if (this.#left > 0) {
        const step = Math.min(this.#left, chunk.length - at);
        this.#left -= step;
        at += step;
        if (this.#left > 0) break;
      } else if (this.#type < 0) {
        this.#type = chunk[at++]! >> 4;
        this.#length = 0;
        this.#shift = 0;
        continue;
      } else {
        const byte = chunk[at++]!;
        this.#length |= (byte & 0x7f) << this.#shift;
        this.#shift += 7;
        if (byte & 0x80) {
          // Longer than MQTT can say: 256 MiB.
          if (this.#shift > 21) return this.#refuse("too-large");
          continue;
        }
        if (!this.#begin()) return -1;
        if (this.#left > 0) continue;
      }
      // The packet is whole.
      this.#release();
      this.#type = -1;
      this.#left = -1;
      if (this.#isFirst) {
        this.#isFirst = false;
        cut = at;
      }
    }
    return cut;
  }

  /** Its length is known. */
  #begin(): boolean {
    const length = this.#length;
    this.#left = length;
    if (this.#isFirst && this.#type !== CONNECT) return this.#refuse("malformed") > 0;
    if (length > (this.#isFirst ? MAX_CONNECT : MAX_PACKET)) return this.#refuse("too-large") > 0;
    if (length > LARGE) {
      if (this.#share.bytes + length > MAX_LARGE_TOGETHER) return this.#refuse("too-large") > 0;
      this.#large = length;
      this.#share.bytes += length;
    }
    return true;
  }

  #release(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#share.bytes -= this.#large;
    this.#large = 0;
  }

  #refuse(why: GateEnd): -1 {
    if (!this.destroyed) {
      this.#onRefused(why);
      this.#socket.destroy();
      this.destroy();
    }
    return -1;
  }

  /** The client has left: the broker hears of it behind all that was received. */
  #finish(): void {
    if (this.#ended) return;
    this.#ended = true;
    if (this.destroyed) return;
    if (this.#type >= 0) this.#onRefused("broken-off");
    this.#release();
    if (this.#isOpen) this.#pushEnd();
    // Before CONNECT nothing can come of it; behind it, open() or the broker's refusal follows.
    else if (this.#isFirst) {
      if (this.#type < 0) this.#onRefused("broken-off");
      this.destroy();
    }
  }

  #pushEnd(): void {
    this.push(null);
  }
}
