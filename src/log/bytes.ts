/**
 * A run's text as the bytes it was: bytes that are no UTF-8 travel as lone surrogates U+DC80…U+DCFF, one a byte.
 */
export function outputBytes(text: string): Uint8Array {
  if (text.isWellFormed()) return Buffer.from(text);
  const parts: Uint8Array[] = [];
  let from = 0;
  for (const { index, 0: surrogate } of text.matchAll(/[\udc80-\udcff]/gu)) {
    parts.push(Buffer.from(text.slice(from, index)), Uint8Array.of(surrogate.charCodeAt(0) - 0xdc00));
    from = index + 1;
  }
  parts.push(Buffer.from(text.slice(from)));
  return Buffer.concat(parts);
}
