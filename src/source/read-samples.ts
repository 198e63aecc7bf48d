import { Encoding } from "../entry.ts";
import { MAX_BODY_BYTES, type Frame } from "../relay/contract.ts";
import type { Sample } from "../sample/schema.ts";
import { SAMPLE_BATCH_VERSION, samplesIn } from "../store/sample-batch.ts";
import { decompressWithin } from "../store/zstd.ts";
import { bad, reading } from "./refuse.ts";

const MAX_SAMPLES = 20_000;
const MAX_CELLS = 4_000_000;
const MAX_KEYS = 2000;
const MAX_NAME = 500;
/** The last time that a Date can hold: a clock that is far off is still a clock. */
const MAX_TIME = 8.64e15;

const decoder = new TextDecoder("utf-8", { fatal: true });

/** The samples of a frame that another installation has packed (see packSamples). */
export function readSamples({ encoding, payload, count, version }: Frame): Sample[] {
  if (version !== SAMPLE_BATCH_VERSION) throw bad(`Its version is ${version}.`);
  if (encoding !== Encoding.columnsZstd) throw bad("Its samples are no columns.");
  const samples = reading("samples", () => {
    const packed = decompressWithin(payload, MAX_BODY_BYTES);
    checkPacked(packed, count);
    return samplesIn(packed);
  });
  for (const { time, values } of samples) {
    if (!(Number.isInteger(time) && time >= 0 && time <= MAX_TIME))
      throw bad("A sample has an impossible time.");
    for (const key in values)
      if (!Number.isFinite(values[key])) throw bad(`${key.slice(0, 80)} is no number.`);
  }
  return samples;
}

/** What decoding would take memory for. */
function checkPacked(packed: Uint8Array, count: number): void {
  const view = new DataView(packed.buffer, packed.byteOffset, packed.byteLength);
  const length = view.getUint32(0, true);
  const heads = JSON.parse(decoder.decode(packed.subarray(4, 4 + length))) as unknown;
  if (!Array.isArray(heads)) throw bad("Its samples have no head.");
  let at = 4 + length;
  let rows = 0;
  let cells = 0;
  for (const head of heads as unknown[]) {
    const { subject, keys, bytes } = head as Record<string, unknown>;
    if (!isName(subject) || !Array.isArray(keys) || keys.length > MAX_KEYS || !keys.every(isReading))
      throw bad("Its samples are of no subject, or have no readings.");
    if (new Set(keys).size !== keys.length) throw bad("Its samples have a reading twice.");
    if (!Number.isSafeInteger(bytes) || (bytes as number) < 8 || at + (bytes as number) > packed.length)
      throw bad("Its samples end early.");
    const height = view.getUint32(at + 4, true);
    rows += height;
    cells += height * (keys.length + 1);
    if (rows > MAX_SAMPLES || cells > MAX_CELLS) throw bad("It has too many samples.");
    at += bytes as number;
  }
  if (at !== packed.length || rows !== count) throw bad(`It has ${rows} samples and says ${count}.`);
}

const isName = (name: unknown): name is string => typeof name === "string" && name.length <= 300;

/** A setter of that name is no reading. */
const isReading = (key: unknown): key is string =>
  typeof key === "string" && key !== "" && key !== "__proto__" && key.length <= MAX_NAME;
