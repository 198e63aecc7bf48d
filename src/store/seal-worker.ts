/** Compresses points beside the event loop. One message in, one answer out, in order. */
import { encodeJobs, type EncodeJob } from "./seal-encode.ts";

declare const self: {
  onmessage: (event: { data: EncodeJob[] }) => void;
  postMessage(message: unknown): void;
};

self.onmessage = ({ data }) => self.postMessage(encodeJobs(data));
