import { readFileSync } from "node:fs";
import { isIPv4, isIPv6 } from "node:net";

/** Bytes sent and not acknowledged by the peer's machine, by the peer's address as the kernel's tables spell it. */
export type Unacknowledged = Map<string, number>;

const ESTABLISHED = "01";
const FRESH_MS = 1000;

/**
 * Whether a peer's machine still acknowledges what we send. The only sign that tells a dead network from a quiet writer, as
 * writes to a dead connection succeed for a quarter of an hour. undefined where the system doesn't tell (not Linux).
 */
export function createSocketTable(now: () => number = () => performance.now()) {
  const tables = [createTable("/proc/net/tcp", now), createTable("/proc/net/tcp6", now)] as const;
  return {
    unacknowledged(address: string, port: number): number | undefined {
      return tables[isIPv4(address) ? 0 : 1]().get(kernelAddress(address, port));
    },
  };
}

/** Read when it is needed: the kernel goes over all places that sockets of a large machine could have, some ms. */
function createTable(file: string, now: () => number): () => Unacknowledged {
  let table: Unacknowledged = new Map();
  let readAt = -Infinity;
  return () => {
    if (now() - readAt <= FRESH_MS) return table;
    readAt = now();
    try {
      table = parseSockets(readFileSync(file, "latin1"));
    } catch {
      // No such table: no IPv6, or no Linux.
    }
    return table;
  };
}

/** "sl local_address rem_address st tx_queue:rx_queue …" → tx_queue by rem_address, of established connections. */
export function parseSockets(text: string): Unacknowledged {
  const table: Unacknowledged = new Map();
  for (const line of text.split("\n")) {
    const [, , remote, state, queues] = line.trim().split(/\s+/, 5);
    if (state === ESTABLISHED && remote && queues) table.set(remote, Number.parseInt(queues, 16));
  }
  return table;
}

/** As in those tables: 32-bit words in the machine's byte order, little-endian on all we are built for. */
export function kernelAddress(address: string, port: number): string {
  const words = isIPv4(address) ? [v4Word(address)] : isIPv6(address) ? v6Words(address) : [];
  const hex = (value: number, digits: number) => value.toString(16).toUpperCase().padStart(digits, "0");
  return `${words.map((word) => hex(swap(word), 8)).join("")}:${hex(port, 4)}`;
}

const v4Word = (address: string): number =>
  address.split(".").reduce((word, part) => ((word << 8) | Number(part)) >>> 0, 0);

function v6Words(address: string): number[] {
  const plain = address
    .replace(/%.*$/, "")
    .replace(/\d+\.\d+\.\d+\.\d+$/, (v4) =>
      [v4Word(v4) >>> 16, v4Word(v4) & 0xffff].map((group) => group.toString(16)).join(":"),
    );
  const [head = "", tail] = plain.split("::");
  const groups = (text: string | undefined) =>
    text ? text.split(":").map((group) => Number.parseInt(group, 16)) : [];
  const before = groups(head);
  const after = groups(tail);
  const all = [...before, ...Array<number>(8 - before.length - after.length).fill(0), ...after];
  return [0, 2, 4, 6].map((at) => ((all[at]! << 16) | all[at + 1]!) >>> 0);
}

const swap = (word: number): number =>
  (((word & 0xff) << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24)) >>> 0;
