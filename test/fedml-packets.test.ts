import { expect, test } from "bun:test";
import { createPackets, type Packets } from "../src/fedml/broker-packets.ts";

const MINUTE = 60_000;

/** Whether the packet is taken as new. */
const isNew = (packets: Packets, client: string, id: number, dup = false) =>
  packets.once(client, { messageId: id, topic: "t", payload: `${client} ${id}`, dup }, async () => {}).isNew;

function whole(packets: Packets, client: string, id: number): void {
  isNew(packets, client, id);
  packets.release(client, id);
}

test("the client that was silent longest is forgotten, not the one that came first", () => {
  const packets = createPackets();
  whole(packets, "old", 1);
  whole(packets, "silent", 1);
  for (let at = 0; at < 9_999; at++) {
    if (at % 1000 === 0) whole(packets, "old", 2);
    whole(packets, `other-${at}`, 1);
  }
  expect(isNew(packets, "old", 1, true)).toBe(false);
  expect(isNew(packets, "silent", 1, true)).toBe(true);
});

test("packets are bounded over all clients, answered ones and those without a PUBREL", () => {
  const packets = createPackets();
  for (let client = 0; client < 700; client++)
    for (let id = 1; id <= 300; id++)
      if (id % 2 === 0) whole(packets, `${client}`, id);
      else isNew(packets, `${client}`, id);
  expect(packets.size).toBeLessThanOrEqual(200_000);
  expect(isNew(packets, "699", 300, true)).toBe(false);
  expect(isNew(packets, "699", 299)).toBe(false);
  expect(isNew(packets, "0", 300, true)).toBe(true);
}, 60_000);

test("one client has every id open that there is, and is not forgotten for it", () => {
  const packets = createPackets();
  for (let client = 0; client < 700; client++)
    for (let id = 1; id <= 200; id++) isNew(packets, `${client}`, id);
  for (let id = 1; id <= 65_535; id++) isNew(packets, "one", id);
  expect([1, 65_535].map((id) => packets.isHeld("one", id))).toEqual([true, true]);
}, 60_000);

test("of a client that is not heard of again nothing is kept", () => {
  let time = 0;
  const packets = createPackets(() => time);
  whole(packets, "gone", 1);
  isNew(packets, "gone", 2);
  for (; time <= 14 * MINUTE; time += MINUTE) isNew(packets, "there", 1);
  expect(packets.size).toBe(3);
  time = 15 * MINUTE;
  isNew(packets, "there", 1);
  expect(packets.size).toBe(1);
  expect(isNew(packets, "gone", 2, true)).toBe(true);
});

test("a message whose commit failed is new again, though its PUBREL came before that", async () => {
  const packets = createPackets();
  const packet = { messageId: 1, topic: "t", payload: "x", dup: true };
  const failed = packets.once("a", packet, () => Promise.reject(new Error("disk")));
  packets.release("a", 1);
  expect(await failed.done.catch((error: Error) => error.message)).toBe("disk");
  const again = packets.once("a", packet, async () => {});
  expect(again.isNew).toBe(true);
  await again.done;
  expect(packets.size).toBe(1);
});
