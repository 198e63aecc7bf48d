const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Bytes as text, without loss: what is no UTF-8 becomes a lone surrogate U+DC80…U+DCFF a byte, as Python's surrogateescape
 * does it. (TextDecoder alone would put U+FFFD for it, and the byte is gone.)
 */
export function decodeLossless(bytes: Uint8Array): string {
  try {
    return strict.decode(bytes);
  } catch {
    return decodeEscaping(bytes);
  }
}

function decodeEscaping(bytes: Uint8Array): string {
  const parts: string[] = [];
  let from = 0;
  let at = 0;
  while (at < bytes.length) {
    const length = sequenceLength(bytes, at);
    if (length > 0) {
      at += length;
      continue;
    }
    if (at > from) parts.push(strict.decode(bytes.subarray(from, at)));
    parts.push(String.fromCharCode(0xdc00 + bytes[at]!));
    from = ++at;
  }
  if (at > from) parts.push(strict.decode(bytes.subarray(from, at)));
  return parts.join("");
}

/** Length of the character that starts here, 0 where none does. Overlong forms and surrogates are none (Unicode, table 3-7). */
function sequenceLength(bytes: Uint8Array, at: number): number {
  const first = bytes[at]!;
  if (first < 0x80) return 1;
  if (first < 0xc2 || first > 0xf4) return 0;
  const length = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  if (at + length > bytes.length) return 0;
  const second = bytes[at + 1]!;
  const low = first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80;
  const high = first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf;
  if (second < low || second > high) return 0;
  for (let index = 2; index < length; index++) if ((bytes[at + index]! & 0xc0) !== 0x80) return 0;
  return length;
}

/** The bytes that such text was. */
export function encodeLossless(text: string): Uint8Array {
  const parts: Uint8Array[] = [];
  let from = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    const isPaired = at > 0 && (text.charCodeAt(at - 1) & 0xfc00) === 0xd800;
    if (code < 0xdc80 || code > 0xdcff || isPaired) continue;
    parts.push(Buffer.from(text.slice(from, at)), Uint8Array.of(code - 0xdc00));
    from = at + 1;
  }
  return Buffer.concat([...parts, Buffer.from(text.slice(from))]);
}
