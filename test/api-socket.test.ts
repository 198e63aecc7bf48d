import { describe, expect, test } from "bun:test";
import { connect, createServer } from "node:net";
import { once } from "node:events";
import { createSocketTable, kernelAddress, parseSockets } from "../src/api/socket.ts";

describe("kernelAddress", () => {
  const f = (address: string, port: number, want: string) =>
    test(`${address} ${port}`, () => expect(kernelAddress(address, port)).toBe(want));
  f("127.0.0.1", 8080, "0100007F:1F90");
  f("192.168.1.200", 65535, "C801A8C0:FFFF");
  f("::1", 22, "00000000000000000000000001000000:0016");
  f("::ffff:10.0.0.1", 80, "0000000000000000FFFF00000100000A:0050");
  f("::ffff:a00:1", 80, "0000000000000000FFFF00000100000A:0050");
  f("fe80::1%eth0", 1, "000080FE000000000000000001000000:0001");
});

test("parseSockets() takes the unacknowledged bytes of established connections", () => {
  const table =
    parseSockets(`  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid
   0: 0100007F:1B9E 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 24
   1: 0100007F:1B9E 0100007F:C350 01 0000002A:00000000 01:00000014 00000003     0        0 25
   2: 0100007F:1B9E 0100007F:C351 06 00000000:00000000 00:00000000 00000000     0        0 0
`);
  expect([...table]).toEqual([["0100007F:C350", 42]]);
});

test.skipIf(process.platform !== "linux")("a real connection is found by its peer's address", async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const client = connect((server.address() as { port: number }).port, "127.0.0.1");
  const [socket] = await once(server, "connection");
  expect(createSocketTable().unacknowledged(socket.remoteAddress, socket.remotePort)).toBe(0);
  expect(createSocketTable().unacknowledged("127.0.0.1", 1)).toBeUndefined();
  client.destroy();
  server.close();
});
