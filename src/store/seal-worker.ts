/** Compresses points beside the event loop. One message in, one answer out, in order. */
import { encodeJobs, type EncodeJob } from "./seal-encode.ts";

declare const self: {
  onmessage: (event: { data: EncodeJob[] }) => void;
  postMessage(message: unknown, transfer: ArrayBufferLike[]): void;
};

self.onmessage = ({ data }) => {
  const encoded = encodeJobs(data);
  const buffers = encoded.flatMap(({ chunk }) =>
    [chunk.axis?.buffer ?? [], chunk.nodes.buffer, chunk.values.buffer].flat(),
  );
  self.postMessage(encoded, buffers);
};
