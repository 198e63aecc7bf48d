import { Encoding } from "../../entry.ts";
import { decompress } from "../../store/zstd.ts";
import type { Frame } from "../contract.ts";

/** Text that stands in the JSON as it is: an integer beyond 2^53, or what is JSON already. */
export class Verbatim {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

/** JSON as Python writes it, and FedML's platform reads it: NaN and infinities are bare tokens. What is undefined is left out. */
export function writeJson(value: unknown): string {
  if (value instanceof Verbatim) return value.text;
  if (typeof value === "number") return writeNumber(value);
  if (Array.isArray(value)) return `[${value.map(writeJson).join(", ")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "null";
  const members = Object.entries(value).filter(([, member]) => member !== undefined);
  return `{${members.map(([name, member]) => `${JSON.stringify(name)}: ${writeJson(member)}`).join(", ")}}`;
}

export const writeNumber = (value: number): string =>
  Number.isFinite(value) ? JSON.stringify(value) : String(value);

/** Agents send ids as numbers, of up to 19 digits. One of ours that is none stays a text. */
export const idOf = (run: string): string | Verbatim =>
  /^[1-9]\d{0,18}$/.test(run) ? new Verbatim(run) : run;

/** An entry's payload, where that is JSON. */
export function readJson({ encoding, payload }: Pick<Frame, "encoding" | "payload">): unknown {
  return JSON.parse(new TextDecoder().decode(encoding === Encoding.jsonZstd ? decompress(payload) : payload));
}
