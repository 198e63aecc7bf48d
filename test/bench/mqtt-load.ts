import { connect, type Socket } from "node:net";
import { connectPacket, DISCONNECT, publishPacket } from "../helpers/mqtt.ts";

export interface MqttLoadOptions {
  port: number;
  user?: string;
  password?: string;
  clients: number;
  seconds: number;
  /** Messages of a client that wait for their PUBCOMP; FedML's client (paho) has 20. */
  window?: number;
  /** By which the metrics of one are told from another's. */
  name?: string;
}

export interface MqttLoadResult {
  /** Messages whose handshake is complete, PUBLISH to PUBCOMP. */
  messages: number;
  seconds: number;
  /** ms from PUBLISH to PUBREC, one in sixteen messages. */
  latencies: number[];
}

/** Clients that publish records by QoS 2, with so little work a message that what is measured is the broker. */
const PUBREC = 0x50;
const PUBREL = 0x62;
const PUBCOMP = 0x70;
const CONNACK = 0x20;

export async function publishFor(options: MqttLoadOptions): Promise<MqttLoadResult> {
  const begun = performance.now();
  const end = begun + options.seconds * 1000;
  const results = await Promise.all(
    Array.from({ length: options.clients }, (_, index) => publishOne(index, end, options)),
  );
  return {
    messages: results.reduce((sum, { messages }) => sum + messages, 0),
    seconds: (performance.now() - begun) / 1000,
    latencies: results.flatMap(({ latencies }) => latencies),
  };
}

function publishOne(
  index: number,
  end: number,
  { port, user, password, window = 20, name = "acc" }: MqttLoadOptions,
): Promise<{ messages: number; latencies: number[] }> {
  return new Promise((resolve, reject) => {
    const socket: Socket = connect({ host: "127.0.0.1", port, noDelay: true });
    const latencies: number[] = [];
    const begunAt = new Float64Array(window + 1);
    let messages = 0;
    let open = 0;
    let step = 0;
    let rest: Buffer = Buffer.alloc(0);
    let isDone = false;

    function message(id: number): Buffer {
      const time = Date.now() + (step % 1000) / 1000;
      const json = `{"x_axis_keys": ["step", "timestamp"], "y_axis_keys": ["${name}", "loss"], "${name}": ${Math.sin(step + index * 1e6)}, "loss": ${1 / (step + 1)}, "step": ${step}, "run_id": "0", "timestamp": ${time}, "is_endpoint": false}`;
      if ((step++ & 15) === 0) begunAt[id] = performance.now();
      return publishPacket("fedml_slave/fedml_master/metrics/0", json, { id });
    }

    function finish(): void {
      isDone = true;
      socket.end(DISCONNECT);
      resolve({ messages, latencies });
    }

    socket.on("error", reject);
    socket.on("close", () => {
      if (!isDone) reject(new Error(`Client ${index} was disconnected.`));
    });
    socket.on("connect", () => {
      socket.write(
        connectPacket({
          client: `bench-${name}-${index}`,
          ...(user !== undefined && { user }),
          ...(password !== undefined && { password }),
        }),
      );
    });
    socket.on("data", (chunk: Buffer) => {
      const bytes = rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk;
      const answers: Buffer[] = [];
      let at = 0;
      for (; at + 4 <= bytes.length; at += 4) {
        const kind = bytes[at]!;
        const id = (bytes[at + 2]! << 8) | bytes[at + 3]!;
        if (kind === CONNACK) {
          if (bytes[at + 3] !== 0) return reject(new Error(`CONNACK ${bytes[at + 3]}`));
          for (open = 0; open < window; open++) answers.push(message(open + 1));
        } else if (kind === PUBREC) {
          if (begunAt[id]! > 0) latencies.push(performance.now() - begunAt[id]!);
          begunAt[id] = 0;
          answers.push(Buffer.from([PUBREL, 2, id >> 8, id & 0xff]));
        } else if (kind === PUBCOMP) {
          messages++;
          if (performance.now() < end) answers.push(message(id));
          else if (--open === 0) return finish();
        } else return reject(new Error(`An answer of kind ${kind}.`));
      }
      rest = bytes.subarray(at);
      if (answers.length > 0) socket.write(Buffer.concat(answers));
    });
  });
}
