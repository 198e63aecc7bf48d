/** Memory of numbers that nobody needs any more goes now, not when the collector of garbage comes by. */
export function free({ buffer }: ArrayBufferView): void {
  if (buffer instanceof ArrayBuffer && !buffer.detached) buffer.transfer(0);
}
