/** The reader's process: ticks, and lines on standard output. It ends with its standard input, which its parent holds. */
import { read, writeSync } from "node:fs";
import type { ReaderMessage } from "./message.ts";
import type { Opened } from "./nvml.ts";
import { createReader } from "./reader.ts";
import { nextTick } from "./schedule.ts";
import { absent, statusOf } from "./status.ts";

export interface LoopOptions {
  open(): Promise<Opened>;
  /** How long a second is, ms. */
  second: number;
  root: string;
}

const STDIN = 0;
const STDOUT = 1;

/** Resolves with the exit code. */
export async function runReader({ open, second, root }: LoopOptions): Promise<number> {
  const out = createLines();
  const send = (message: ReaderMessage) => out.add(JSON.stringify(message));
  const beat = () => {
    send({ kind: "beat", time: Date.now() });
    out.flush();
  };
  endWithInput();

  beat();
  const opened = await open();
  const { nvml } = opened;
  if (!nvml) {
    const { found, reason, advice } = opened;
    const reader = statusOf(found ? "failed" : "absent", reason, found ? advice : absent(true).advice);
    send({ kind: "status", time: Date.now(), reader });
    out.flush();
    return 0;
  }
  return new Promise((resolve) => {
    const end = () => {
      out.flush();
      resolve(0);
    };
    const reader = createReader({ nvml, send, beat, second, root });
    if (reader.start() === "end") return end();
    out.flush();

    /** When GPUs are to be read; in between the heart beats. */
    let due = nextTick(Date.now(), reader.every() * second);

    function onSecond(): void {
      // The pipe is full: what was read now could only pile up.
      if (!out.flush()) return wait();
      // Somebody set the clock back: it would be an hour, or a year, until it is due.
      due = Math.min(due, nextTick(Date.now(), reader.every() * second));
      if (Date.now() + second / 20 < due) beat();
      else {
        if (reader.tick() === "end") return end();
        out.flush();
        due = nextTick(Date.now(), reader.every() * second);
      }
      wait();
    }

    function wait(): void {
      const now = Date.now();
      const next = nextTick(now, second);
      const lead = next + second / 20 >= due ? reader.leadMs() : undefined;
      if (lead === undefined || next - lead <= now) return void setTimeout(onSecond, next - now);
      setTimeout(
        () => {
          reader.lead();
          setTimeout(onSecond, Math.max(next - Date.now(), 0));
        },
        next - lead - now,
      );
    }
    wait();
  });
}

/** Its parent has ended, however it did. A read that waits in a thread is 2 MB less than process.stdin. */
function endWithInput(): void {
  read(STDIN, new Uint8Array(1), 0, 1, null, (error, bytes) => {
    if (error || bytes === 0) process.exit(0);
    endWithInput();
  });
}

interface Lines {
  add(line: string): void;
  /** Writes what there is; false: the pipe took only a part of it. */
  flush(): boolean;
}

/** Whole lines, one write a tick. A reader of the pipe that went away ends this process. */
function createLines(): Lines {
  let text = "";
  let rest: Uint8Array | undefined;
  return {
    add: (line) => void (text += `${line}\n`),
    flush() {
      if (text !== "") {
        const bytes = Buffer.from(text);
        rest = rest ? Buffer.concat([rest, bytes]) : bytes;
        text = "";
      }
      while (rest) {
        try {
          const written = writeSync(STDOUT, rest);
          rest = written < rest.length ? rest.subarray(written) : undefined;
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code === "EAGAIN") return false;
          process.exit(0);
        }
      }
      return true;
    },
  };
}
