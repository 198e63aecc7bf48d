/** Does a blob's jobs beside the event loop. One message in, one answer out, in order. */
import { runBlobJob, type BlobJob } from "./blob-work.ts";

declare const self: {
  onmessage: (event: { data: BlobJob }) => void;
  postMessage(message: unknown): void;
};

self.onmessage = ({ data }) => {
  const answer = runBlobJob(data);
  // Its memory goes now, not when this thread next looks what it needs no more: chunks come faster than that.
  if (data.kind === "chunk") (data.bytes.buffer as ArrayBuffer).transfer(0);
  self.postMessage(answer);
};
