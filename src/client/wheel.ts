import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import { VERSION } from "../version.ts";
import { pythonFiles } from "./python-files.ts";

export const wheelName = `binnacle-${VERSION}-py3-none-any.whl`;

let built: Uint8Array<ArrayBuffer> | undefined;

/**
 * The module binnacle as a wheel; the same bytes every time. Without the module fedml, which would overwrite an installed
 * one.
 */
export function buildWheel(): Uint8Array<ArrayBuffer> {
  return (built ??= zip(withRecord(wheelFiles())));
}

function wheelFiles(): [path: string, text: string][] {
  const info = `binnacle-${VERSION}.dist-info`;
  const modules = Object.entries(pythonFiles).filter(([path]) => path.startsWith("binnacle/"));
  return [
    ...modules,
    [
      `${info}/METADATA`,
      `Metadata-Version: 2.1
Name: binnacle
Version: ${VERSION}
Summary: Records what a training does: metrics, logs, configuration, models and artifacts
License: MIT
Requires-Python: >=3.8
Description-Content-Type: text/markdown

Records what a training does, and never makes it wait.

    import binnacle

    binnacle.init(project="digits", config={"lr": 0.01})
    binnacle.log({"train/loss": 0.3})
`,
    ],
    [`${info}/WHEEL`, "Wheel-Version: 1.0\nGenerator: binnacle\nRoot-Is-Purelib: true\nTag: py3-none-any\n"],
  ];
}

function withRecord(files: [path: string, text: string][]): [path: string, text: string][] {
  const lines = files.map(([path, text]) => {
    const hash = createHash("sha256").update(text).digest("base64url");
    return `${path},sha256=${hash},${Buffer.byteLength(text)}`;
  });
  const record = `binnacle-${VERSION}.dist-info/RECORD`;
  return [...files, [record, `${[...lines, `${record},,`].join("\n")}\n`]];
}

/** Uncompressed, dated 1980: the bytes depend on the files alone. */
function zip(files: [path: string, text: string][]): Uint8Array<ArrayBuffer> {
  const parts: Uint8Array[] = [];
  const directory: Uint8Array[] = [];
  let offset = 0;
  for (const [path, text] of files) {
    const name = Buffer.from(path);
    const data = Buffer.from(text);
    const common = fields([
      [2, 20], // needs version 2.0
      [2, 0x0800], // names are UTF-8
      [2, 0], // stored
      [2, 0], // 00:00
      [2, 0x0021], // 1980-01-01
      [4, crc32(data)],
      [4, data.length],
      [4, data.length],
      [2, name.length],
      [2, 0],
    ]);
    parts.push(fields([[4, 0x04034b50]]), common, name, data);
    directory.push(
      fields([
        [4, 0x02014b50],
        [2, (3 << 8) | 20], // made on Unix
      ]),
      common,
      fields([
        [2, 0],
        [2, 0],
        [2, 0],
        [4, (0o100644 << 16) >>> 0],
        [4, offset],
      ]),
      name,
    );
    offset += 4 + common.length + name.length + data.length;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const end = fields([
    [4, 0x06054b50],
    [2, 0],
    [2, 0],
    [2, files.length],
    [2, files.length],
    [4, size],
    [4, offset],
    [2, 0],
  ]);
  return new Uint8Array(Buffer.concat([...parts, ...directory, end]));
}

/** Little-endian numbers, each with its width in bytes. */
function fields(numbers: [width: 2 | 4, value: number][]): Buffer {
  const buffer = Buffer.alloc(numbers.reduce((sum, [width]) => sum + width, 0));
  let at = 0;
  for (const [width, value] of numbers) at = buffer.writeUIntLE(value, at, width);
  return buffer;
}
