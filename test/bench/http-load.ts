/** A cheap load generator: raw keep-alive sockets and prebuilt bodies, so that the server gets most of the two cores. */
import { connect, type Socket } from "node:net";

export interface Reply {
  status: number;
  body: Buffer;
}

/** One keep-alive connection, one request at a time. */
export class Connection {
  private received: Buffer[] = [];
  private size = 0;
  private expected = -1;
  private status = 0;
  private headerEnd = 0;
  private resolve: ((reply: Reply) => void) | undefined;
  private reject: ((error: Error) => void) | undefined;
  private readonly socket: Socket;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.setNoDelay(true);
    socket.on("data", (chunk: Buffer) => this.receive(chunk));
    socket.on("error", (error) => this.reject?.(error));
    socket.on("close", () => this.reject?.(new Error("connection closed")));
  }

  static open(port: number): Promise<Connection> {
    return new Promise((resolve, reject) => {
      const socket = connect(port, "127.0.0.1", () => resolve(new Connection(socket)));
      socket.once("error", reject);
    });
  }

  send(head: string, body: Uint8Array | undefined): Promise<Reply> {
    return new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
      this.socket.cork();
      this.socket.write(head, "latin1");
      if (body) this.socket.write(body);
      this.socket.uncork();
    });
  }

  close(): void {
    this.reject = undefined;
    this.socket.destroy();
  }

  private receive(chunk: Buffer): void {
    this.received.push(chunk);
    this.size += chunk.length;
    if (this.expected < 0) this.readHead();
    if (this.expected >= 0 && this.size >= this.expected) this.finish();
  }

  private readHead(): void {
    const data = this.joined();
    const end = data.indexOf("\r\n\r\n");
    if (end < 0) return;
    const head = data.toString("latin1", 0, end).toLowerCase();
    const length = /content-length: (\d+)/.exec(head);
    if (!length) throw new Error(`a reply without Content-Length: ${head}`);
    this.status = Number(head.slice(9, 12));
    this.headerEnd = end + 4;
    this.expected = this.headerEnd + Number(length[1]);
  }

  private finish(): void {
    const body = this.joined().subarray(this.headerEnd, this.expected);
    const { resolve, status } = this;
    this.received = [];
    this.size = 0;
    this.expected = -1;
    resolve?.({ status, body });
  }

  private joined(): Buffer {
    if (this.received.length > 1) this.received = [Buffer.concat(this.received)];
    return this.received[0]!;
  }
}

export function requestHead(
  method: string,
  path: string,
  { port, token, length = 0, accept = "" }: { port: number; token: string; length?: number; accept?: string },
): string {
  return (
    `${method} ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nAuthorization: Bearer ${token}\r\n` +
    (accept && `Accept-Encoding: ${accept}\r\n`) +
    (length > 0 ? `Content-Type: application/json\r\nContent-Length: ${length}\r\n` : "") +
    `\r\n`
  );
}

/** A batch body whose numbers that change (seq, steps, times) are patched in place, so that building it costs no load. */
export class BatchTemplate {
  readonly body: Buffer;
  readonly points: number;
  private readonly seqAt: number;
  private readonly stepAt: number[] = [];
  private readonly timeAt: number[] = [];

  constructor(
    client: string,
    records: number,
    keys: string[],
    valueOf: (key: number, record: number) => number,
  ) {
    const blank = (width: number) => " ".repeat(width);
    let text = `{"client":"${client}","seq":`;
    this.seqAt = text.length;
    text += `${blank(10)},"items":[`;
    for (let record = 0; record < records; record++) {
      text += `${record ? "," : ""}{"step":`;
      this.stepAt.push(text.length);
      text += `${blank(10)},"time":`;
      this.timeAt.push(text.length);
      text += `${blank(13)},"metrics":{`;
      text += keys.map((key, index) => `"${key}":${valueOf(index, record)}`).join(",");
      text += "}}";
    }
    this.body = Buffer.from(`${text}]}`);
    this.points = records * keys.length;
  }

  fill(seq: number, firstStep: number, firstTime: number): Buffer {
    this.put(this.seqAt, 10, seq);
    for (let record = 0; record < this.stepAt.length; record++) {
      this.put(this.stepAt[record]!, 10, firstStep + record);
      this.put(this.timeAt[record]!, 13, firstTime + record);
    }
    return this.body;
  }

  /** Right-aligned digits over blanks: JSON allows white space there, and no leading zeros. */
  private put(at: number, width: number, value: number): void {
    let rest = value;
    for (let index = at + width - 1; index >= at; index--) {
      this.body[index] = rest > 0 || index === at + width - 1 ? 48 + (rest % 10) : 32;
      rest = Math.floor(rest / 10);
    }
  }
}
