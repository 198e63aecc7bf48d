import { createHash } from "node:crypto";
import { deflateSync } from "node:zlib";
import { logArtifact } from "../../src/artifact/log.ts";
import { LogArtifact, type LoggedArtifact } from "../../src/artifact/schema.ts";
import { SMALL_BYTES } from "../../src/blob/schema.ts";
import type { Collector } from "../../src/collector.ts";

export type Content = string | Uint8Array;

const sha256Of = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

/** Keeps the contents as blobs, and names them as files. */
export async function keepFiles({ blobs }: Collector, contents: Record<string, Content>) {
  const files = Object.entries(contents).map(([path, content]) => {
    const bytes = typeof content === "string" ? Buffer.from(content) : content;
    return { path, bytes, size: bytes.length, sha256: sha256Of(bytes) };
  });
  blobs.putSmall(files.filter(({ size }) => size <= SMALL_BYTES));
  for (const { bytes, size, sha256 } of files.filter(({ size }) => size > SMALL_BYTES)) {
    await blobs.open(sha256, { size, chunks: [sha256] });
    await blobs.putChunk(sha256, 0, Uint8Array.from(bytes));
    await blobs.commit(sha256);
  }
  return files.map(({ path, size, sha256 }) => ({ path, size, sha256 }));
}

export interface LogFiles extends Partial<Omit<LogArtifact, "files" | "name">> {
  files: Record<string, Content>;
}

/** Logs a model, or what `more` says, as a client would have after its upload. */
export async function logFiles(
  collector: Collector,
  run: string | null,
  name: string,
  { files, ...more }: LogFiles,
): Promise<LoggedArtifact> {
  const kept = await keepFiles(collector, files);
  return logArtifact(
    collector,
    run,
    LogArtifact.parse({
      kind: "model",
      type: more.kind === "artifact" ? "general" : "model",
      ...more,
      name,
      files: kept,
    }),
  );
}

function crc32(bytes: Uint8Array): number {
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return ~crc >>> 0;
}

function chunk(type: string, data: Uint8Array): Uint8Array {
  const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
  const [length, crc] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(data.length);
  crc.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, crc]);
}

/** A picture of that size: a colour for each place. */
export function png(
  width: number,
  height: number,
  colour: (x: number, y: number) => [number, number, number],
): Uint8Array {
  const rows = Buffer.alloc(height * (width * 3 + 1));
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) rows.set(colour(x, y), y * (width * 3 + 1) + 1 + x * 3);
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 2, 0, 0, 0], 8);
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  return Buffer.concat([
    signature,
    chunk("IHDR", header),
    chunk("IDAT", deflateSync(rows)),
    chunk("IEND", new Uint8Array()),
  ]);
}

const csv = `step,loss,note\n${Array.from({ length: 400 }, (_, i) => `${i},${(2 / (i + 1)).toFixed(4)},"a, ${i}"`).join("\n")}\n`;
const rainbow = png(320, 200, (x, y) => [x % 256, y, 255 - (x % 256)]);
/** What a training run leaves: text, JSON, a table, a picture, weights. Another seed, other files. */
export const modelFiles = (seed: number) => ({
  "README.md": `# Digits ${seed}\n\nTrained for ${seed * 10} epochs.\n`,
  "config.json": '{"lr":0.001,"layers":[64,32],"seed":12345678901234567890}',
  "history.csv": csv,
  "plots/confusion.png": rainbow,
  "plots/more/about.txt": "Nothing more.\n",
  "weights.bin": Uint8Array.from({ length: 200_000 }, (_, i) => (i * seed) % 251),
});
