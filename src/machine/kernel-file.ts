import { closeSync, openSync, readSync } from "node:fs";

/** Shared by all, so what was read must be parsed before the next read. Grows to the longest file met. */
let buffer = Buffer.allocUnsafe(65_536);

/** How long a file that is not there is not looked for again, ms: to fail costs more than to read. */
const ABSENT_MS = 30_000;

const codeOf = (error: unknown) => (error as { code?: string }).code;

/** Not there, or switched off: the kernel answers EOPNOTSUPP for pressure under psi=0, and ENODEV for a group that was removed. */
const isAbsence = (error: unknown) =>
  ["ENOENT", "ENOTDIR", "EOPNOTSUPP", "ENOTSUP", "ENODEV"].includes(codeOf(error) ?? "");

/** A file of /proc or /sys that is read again and again by one descriptor: opening anew would double the cost. */
export class KernelFile {
  readonly path: string;
  readonly #isOneRecord: boolean;
  #fd: number | undefined;
  #absentUntil = -Infinity;

  /** `isOneRecord`: the kernel makes it at one go (single_open, kernfs), so that one read has all of it, however long. */
  constructor(path: string, { isOneRecord = false }: { isOneRecord?: boolean } = {}) {
    this.path = path;
    this.#isOneRecord = isOneRecord;
  }

  /** Its content, valid until the next read of any file; undefined where there is no such file. */
  read(): Buffer | undefined {
    if (this.#fd === undefined) {
      if (performance.now() < this.#absentUntil) return undefined;
      return this.#attempt();
    }
    try {
      return readWhole(this.#fd, this.#isOneRecord);
    } catch {
      // What it stood for was replaced, as a device that went and came back: the name may have a new one.
      this.close();
      return this.#attempt();
    }
  }

  #attempt(): Buffer | undefined {
    try {
      this.#fd = openSync(this.path, "r");
      return readWhole(this.#fd, this.#isOneRecord);
    } catch (error) {
      this.close();
      if (!isAbsence(error)) throw error;
      this.#absentUntil = performance.now() + ABSENT_MS;
      return undefined;
    }
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }
}

/** Once, for what is seldom read; undefined where there is no such file. */
export function readKernelFile(path: string): Buffer | undefined {
  const file = new KernelFile(path);
  try {
    return file.read();
  } finally {
    file.close();
  }
}

/** The same as text, without the line's end. */
export function readKernelText(path: string): string | undefined {
  return readKernelFile(path)?.toString("utf8").trimEnd();
}

/** To the end: the kernel hands out long files a page or so at a time, however much was asked for. */
function readWhole(fd: number, isOneRecord: boolean): Buffer {
  let length = 0;
  for (;;) {
    const count = readSync(fd, buffer, length, buffer.length - length, length);
    length += count;
    if (length < buffer.length) {
      if (count === 0 || isOneRecord) return buffer.subarray(0, length);
      continue;
    }
    const longer = Buffer.allocUnsafe(buffer.length * 2);
    buffer.copy(longer);
    buffer = longer;
  }
}

const BLANK = 32;
const TAB = 9;
const NEWLINE = 10;
const ZERO = 48;
const NINE = 57;

/** Walks over the fields of a text of the kernel, byte by byte: no strings are made of what is only a number. */
export class Fields {
  readonly bytes: Buffer;
  #at: number;

  constructor(bytes: Buffer, at = 0) {
    this.bytes = bytes;
    this.#at = at;
  }

  get isEnd(): boolean {
    return this.#at >= this.bytes.length;
  }

  /** Goes behind the end of this line. */
  nextLine(): void {
    const end = this.bytes.indexOf(NEWLINE, this.#at);
    this.#at = end < 0 ? this.bytes.length : end + 1;
  }

  skipBlanks(): void {
    const { bytes } = this;
    while (bytes[this.#at] === BLANK || bytes[this.#at] === TAB) this.#at += 1;
  }

  /** The next field of this line, if it is an unsigned integer; else undefined, and it stays. */
  number(): number | undefined {
    this.skipBlanks();
    const { bytes } = this;
    let at = this.#at;
    let value = 0;
    for (let byte = bytes[at]!; byte >= ZERO && byte <= NINE; byte = bytes[at]!) {
      value = value * 10 + (byte - ZERO);
      at += 1;
    }
    if (at === this.#at) return undefined;
    this.#at = at;
    return value;
  }

  /** The next field of this line, "" at its end. `stop`: a byte that ends it as well, and is passed. */
  word(stop = BLANK): string {
    this.skipBlanks();
    const { bytes } = this;
    const from = this.#at;
    let at = from;
    for (let byte = bytes[at]; byte !== undefined; byte = bytes[at]) {
      if (byte === stop || byte === BLANK || byte === NEWLINE || byte === TAB) break;
      at += 1;
    }
    this.#at = at < bytes.length && bytes[at] === stop ? at + 1 : at;
    return bytes.toString("latin1", from, at);
  }

  /** Whether the line goes on with this; then it is passed. */
  has(word: Buffer): boolean {
    for (let i = 0; i < word.length; i += 1) if (this.bytes[this.#at + i] !== word[i]) return false;
    this.#at += word.length;
    return true;
  }
}

/** `name value` lines, as of cpu.stat and memory.events. */
export function parseFlat(bytes: Buffer): Map<string, number> {
  const valueByName = new Map<string, number>();
  for (const fields = new Fields(bytes); !fields.isEnd; fields.nextLine()) {
    const name = fields.word();
    const value = fields.number();
    if (name !== "" && value !== undefined) valueByName.set(name, value);
  }
  return valueByName;
}
