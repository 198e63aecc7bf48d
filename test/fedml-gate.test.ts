import { createServer, connect, type AddressInfo, type Socket } from "node:net";
import { afterEach, expect, test } from "bun:test";
import { Gate } from "../src/fedml/broker-gate.ts";
import { connectPacket, lengthOf } from "./helpers/mqtt.ts";

const WHOLE_WITHIN = 100;
const KiB = 1024;
const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

/** A client's socket, and the gate that it comes to, which nobody reads yet; CONNECT was accepted. */
async function open(): Promise<{ client: Socket; gate: Gate; refused: string[] }> {
  const refused: string[] = [];
  const accepted = Promise.withResolvers<Gate>();
  const server = createServer({ allowHalfOpen: true }, (socket) =>
    accepted.resolve(new Gate(socket, { bytes: 0 }, (why) => refused.push(why), WHOLE_WITHIN)),
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const client = connect((server.address() as AddressInfo).port, "127.0.0.1");
  client.on("error", () => {});
  const gate = await accepted.promise;
  ends.push(() => {
    client.destroy();
    gate.destroy();
    server.close();
  });
  client.write(connectPacket());
  gate.open();
  return { client, gate, refused };
}

const head = (length: number) => Buffer.from([0x34, ...lengthOf(length)]);

test("a packet that its client does not finish ends the connection", async () => {
  const { client, gate, refused } = await open();
  gate.resume();
  const closed = new Promise((resolve) => gate.once("close", resolve));
  client.write(Buffer.concat([head(100), Buffer.alloc(50)]));
  await closed;
  expect(refused).toEqual(["broken-off"]);
});

test("a packet that we do not go on reading does not", async () => {
  const { client, gate, refused } = await open();
  client.write(Buffer.concat([head(1024 * KiB), Buffer.alloc(1024 * KiB)]));
  // Far longer than it may take: what does not happen can't be awaited.
  await new Promise((resolve) => setTimeout(resolve, 5 * WHOLE_WITHIN));
  expect(refused).toEqual([]);
  let received = 0;
  const whole = new Promise<void>((resolve) =>
    gate.on("data", (chunk: Buffer) => {
      received += chunk.length;
      if (received >= connectPacket().length + head(1024 * KiB).length + 1024 * KiB) resolve();
    }),
  );
  await whole;
  expect(refused).toEqual([]);
});
