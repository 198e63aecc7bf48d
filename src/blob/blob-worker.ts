/** Does a blob's jobs beside the event loop. One message in, one answer out, in order. */
import { runBlobJob, type BlobJob } from "./blob-work.ts";

declare const self: {
  onmessage: (event: { data: BlobJob }) => void;
  postMessage(message: unknown): void;
};

self.onmessage = ({ data }) => self.postMessage(runBlobJob(data));
