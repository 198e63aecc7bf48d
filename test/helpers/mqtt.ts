import { connect, type Socket } from "node:net";

/** MQTT 3.1.1 packet by packet, for what a well-behaved client never does. */
const encoder = new TextEncoder();

export const short = (value: number): Buffer => Buffer.from([value >> 8, value & 0xff]);

export function text(value: string): Buffer {
  const bytes = encoder.encode(value);
  return Buffer.concat([short(bytes.length), bytes]);
}

export function packet(head: number, parts: Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  return Buffer.concat([Buffer.from([head, ...lengthOf(body.length)]), body]);
}

/** A remaining length as it stands in a packet's head. */
export function lengthOf(length: number): number[] {
  const bytes: number[] = [];
  for (let left = length; ;) {
    const byte = left & 0x7f;
    left >>= 7;
    bytes.push(left > 0 ? byte | 0x80 : byte);
    if (left === 0) return bytes;
  }
}

export interface ConnectOptions {
  client?: string;
  user?: string;
  password?: string;
  keepAlive?: number;
  clean?: boolean;
  will?: { topic: string; payload: string };
}

export function connectPacket(options: ConnectOptions = {}): Buffer {
  const { client = "raw", user, password, keepAlive = 60, clean = true, will } = options;
  const flags =
    (clean ? 2 : 0) |
    (will ? 0x14 : 0) |
    (user === undefined ? 0 : 0x80) |
    (password === undefined ? 0 : 0x40);
  return packet(0x10, [
    text("MQTT"),
    Buffer.from([4, flags]),
    short(keepAlive),
    text(client),
    ...(will ? [text(will.topic), text(will.payload)] : []),
    ...(user === undefined ? [] : [text(user)]),
    ...(password === undefined ? [] : [text(password)]),
  ]);
}

export interface PublishOptions {
  id?: number;
  qos?: 0 | 1 | 2;
  dup?: boolean;
  retain?: boolean;
}

export function publishPacket(
  topic: string,
  payload: string | Uint8Array,
  { id = 1, qos = 2, dup = false, retain = false }: PublishOptions = {},
): Buffer {
  return packet(0x30 | (dup ? 8 : 0) | (qos << 1) | (retain ? 1 : 0), [
    text(topic),
    ...(qos > 0 ? [short(id)] : []),
    Buffer.from(payload as Uint8Array),
  ]);
}

export const pubrelPacket = (id: number): Buffer => packet(0x62, [short(id)]);
export const subscribePacket = (id: number, filter: string, qos = 2): Buffer =>
  packet(0x82, [short(id), text(filter), Buffer.from([qos])]);
export const DISCONNECT: Buffer = Buffer.from([0xe0, 0]);

const KINDS = [
  "",
  "connect",
  "connack",
  "publish",
  "puback",
  "pubrec",
  "pubrel",
  "pubcomp",
  "subscribe",
  "suback",
  "unsubscribe",
  "unsuback",
  "pingreq",
  "pingresp",
  "disconnect",
];

export interface RawPacket {
  kind: string;
  flags: number;
  body: Buffer;
  /** Of acknowledgements: the packet's id. */
  id: number;
}

/** A connection that sends what it is told and waits for answers. */
export class RawMqtt {
  readonly socket: Socket;
  readonly closed: Promise<void>;
  readonly received: RawPacket[] = [];
  #bytes: Buffer = Buffer.alloc(0);
  #waiting: (() => void)[] = [];
  #isClosed = false;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", (chunk: Buffer) => this.#read(chunk));
    socket.on("error", () => {});
    this.closed = new Promise((resolve) =>
      socket.on("close", () => {
        this.#isClosed = true;
        this.#wake();
        resolve();
      }),
    );
  }

  /** The socket alone. */
  static open(port: number): Promise<RawMqtt> {
    return new Promise((resolve, reject) => {
      const socket = connect({ host: "127.0.0.1", port, noDelay: true });
      const raw = new RawMqtt(socket);
      socket.once("connect", () => resolve(raw));
      socket.once("error", reject);
    });
  }

  /** With CONNECT accepted. */
  static async connect(port: number, options: ConnectOptions): Promise<RawMqtt> {
    const raw = await RawMqtt.open(port);
    raw.send(connectPacket(options));
    const { body } = await raw.next("connack");
    if (body[1] !== 0) throw new Error(`CONNACK says ${body[1]}.`);
    return raw;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  send(...packets: Buffer[]): void {
    this.socket.write(Buffer.concat(packets));
  }

  /** The next packet of this kind, which is taken out of what was received. */
  async next(kind: string): Promise<RawPacket> {
    for (;;) {
      const at = this.received.findIndex((one) => one.kind === kind);
      if (at >= 0) return this.received.splice(at, 1)[0]!;
      if (this.#isClosed) throw new Error(`The connection was closed before a ${kind} came.`);
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  /** The whole handshake of a message by QoS 2. */
  async publish(topic: string, payload: string | Uint8Array, options: PublishOptions = {}): Promise<void> {
    const { id = 1 } = options;
    this.send(publishPacket(topic, payload, options));
    await this.next("pubrec");
    this.send(pubrelPacket(id));
    await this.next("pubcomp");
  }

  /** Ends without a word, as a process that is killed. */
  vanish(): Promise<void> {
    this.socket.destroy();
    return this.closed;
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }

  #read(chunk: Buffer): void {
    this.#bytes = this.#bytes.length > 0 ? Buffer.concat([this.#bytes, chunk]) : chunk;
    for (;;) {
      const bytes = this.#bytes;
      let length = 0;
      let at = 1;
      for (let shift = 0; ; shift += 7) {
        if (at >= bytes.length) return this.#wake();
        const byte = bytes[at++]!;
        length |= (byte & 0x7f) << shift;
        if ((byte & 0x80) === 0) break;
      }
      if (bytes.length < at + length) return this.#wake();
      const body = bytes.subarray(at, at + length);
      this.received.push({
        kind: KINDS[bytes[0]! >> 4]!,
        flags: bytes[0]! & 0xf,
        body,
        id: body.length >= 2 ? body.readUInt16BE(0) : 0,
      });
      this.#bytes = bytes.subarray(at + length);
    }
  }
}
