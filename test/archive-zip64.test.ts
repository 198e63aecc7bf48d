/** Archives of more than 4 GiB or 65,535 files need zip64. Ours have it throughout, so that small ones can be tested. */
import { afterEach, expect, test } from "bun:test";
import { exportOf, importTo } from "./helpers/archive.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";

const open: TestCollector[] = [];
afterEach(async () => {
  for (const each of open.splice(0)) await each.close();
});

function collector(): TestCollector {
  const created = createTestCollector();
  open.push(created);
  return created;
}

const END = 0x06054b50;
const ENTRY = 0x02014b50;

test("lengths and places stand in 64 bits alone, and are read from there", async () => {
  const [from, to] = [collector(), collector()];
  await from.json("/api/v1/runs", { body: { id: "1" } });
  await from.json("/api/v1/runs/1/records", {
    body: { client: "w", seq: 1, items: [{ metrics: { a: 1 } }] },
  });
  await from.json("/api/v1/runs/1/finish", { body: {} });
  const zip = await exportOf(from, "1");
  const view = new DataView(zip.buffer, zip.byteOffset, zip.length);
  const end = zip.length - 22;
  expect(view.getUint32(end, true)).toBe(END);
  // How many entries, how long their list is, and where it begins.
  expect([
    view.getUint16(end + 10, true),
    view.getUint32(end + 12, true),
    view.getUint32(end + 16, true),
  ]).toEqual([0xffff, 0xffffffff, 0xffffffff]);
  let entries = 0;
  for (let at = 0; at < end; at++)
    if (view.getUint32(at, true) === ENTRY) {
      entries++;
      // Packed and unpacked length.
      expect([view.getUint32(at + 20, true), view.getUint32(at + 24, true)]).toEqual([
        0xffffffff, 0xffffffff,
      ]);
    }
  expect(entries).toBe(12);
  const response = await importTo(to, zip);
  expect(await response.json()).toMatchObject({ run: "1", points: 1 });
  expect(response.status).toBe(201);
});
