import { readFileSync, rmSync, statSync } from "node:fs";
import { Worker } from "node:worker_threads";
import type { Connection } from "./connection.ts";
import { parseSpoolText } from "./spool.ts";

/** A file larger than this is left to `binnacle sync`: it would not get through in the time there is. */
const MAX_BYTES = 32 * 1024 * 1024;

/**
 * Sends a spool file from an exit hook, where nothing asynchronous runs any more: a thread sends while this one waits.
 * True where everything was answered 2xx; the file is deleted then.
 */
export function sendNow(file: string, { url, token }: Connection, timeoutMs: number): boolean {
  try {
    if (statSync(file).size > MAX_BYTES) return false;
    const lines = parseSpoolText(readFileSync(file, "utf8"));
    const state = new Int32Array(new SharedArrayBuffer(8));
    const worker = new Worker(program, {
      eval: true,
      workerData: { url, token, lines, state, deadline: Date.now() + timeoutMs },
    });
    worker.unref();
    Atomics.wait(state, DONE, 0, timeoutMs);
    if (Atomics.load(state, SENT) !== lines.length) return false;
    rmSync(file, { force: true });
    return true;
  } catch {
    // What is on disk is safe; an exit hook has nobody left to tell.
    return false;
  }
}

const DONE = 0;
const SENT = 1;

/** Plain JavaScript, as text: a worker's file would be missing from a bundle. */
const program = `
const { workerData } = require("node:worker_threads");
const { url, token, lines, state, deadline } = workerData;
const headers = { "content-type": "application/json", ...(token && { authorization: "Bearer " + token }) };
(async () => {
  try {
    for (const { method = "POST", path, body } of lines) {
      const signal = AbortSignal.timeout(Math.max(1, deadline - Date.now()));
      const response = await fetch(url + path, { method, headers, body: JSON.stringify(body), signal, proxy: false });
      if (!response.ok) break;
      await response.json();
      Atomics.add(state, ${SENT}, 1);
    }
  } catch {}
  Atomics.store(state, ${DONE}, 1);
  Atomics.notify(state, ${DONE});
})();
`;
