import { spawn, type ChildProcess } from "node:child_process";
import { constants } from "node:os";
import { Readable } from "node:stream";

/** What to run: a file and its arguments, not a shell's text. */
export interface Program {
  file: string;
  args: string[];
  cwd?: string | undefined;
  env: Record<string, string | undefined>;
}

export interface RunningProgram {
  readonly pid: number;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** How it ended, without waiting for what it left behind. */
  readonly ended: Promise<Ending>;
  /** Sends a signal to it and everything it started. False where nothing of it is left. */
  signal(signal: NodeJS.Signals): boolean;
  /** Whether it, or anything it started in its group, is still there. */
  isLeft(): boolean;
}

export type Ending =
  | { kind: "exit"; code: number }
  | { kind: "signal"; signal: NodeJS.Signals }
  /** It never ran. */
  | { kind: "missing" | "refused"; message: string };

/**
 * Starts a program as the head of a process group (and session) of its own: a signal reaches all of it, and Ctrl-C reaches us
 * alone, so that it arrives once and not twice.
 */
export function startProgram({ file, args, cwd, env }: Program): RunningProgram {
  let child: ChildProcess;
  try {
    child = spawn(file, args, {
      cwd,
      env: env as NodeJS.ProcessEnv,
      detached: true,
      stdio: ["inherit", "pipe", "pipe"],
    });
  } catch (error) {
    return neverRan(failureOf(file, error));
  }
  if (child.pid === undefined) {
    const failure = new Promise<Ending>((resolve) =>
      child.once("error", (error) => resolve(failureOf(file, error))),
    );
    return neverRan(failure);
  }
  const { pid } = child;
  const ended = new Promise<Ending>((resolve) => {
    child.once("error", (error) => resolve(failureOf(file, error)));
    child.once("exit", (code, signal) =>
      resolve(signal === null ? { kind: "exit", code: code ?? 1 } : { kind: "signal", signal }),
    );
  });
  return {
    pid,
    stdout: child.stdout!,
    stderr: child.stderr!,
    ended,
    signal: (signal) => signalGroup(pid, signal),
    isLeft: () => signalGroup(pid, 0),
  };
}

function neverRan(ending: Ending | Promise<Ending>): RunningProgram {
  return {
    pid: 0,
    stdout: Readable.from([]),
    stderr: Readable.from([]),
    ended: Promise.resolve(ending),
    signal: () => false,
    isLeft: () => false,
  };
}

function signalGroup(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    process.kill(-pid, signal);
    return true;
  } catch (error) {
    // EPERM: somebody is left, who became another user.
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

function failureOf(file: string, error: unknown): Ending {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === "ENOENT") return { kind: "missing", message: `${file}: command not found` };
  if (code === "EACCES") return { kind: "refused", message: `${file}: permission denied` };
  return { kind: "refused", message: `${file}: ${message}` };
}

export interface Verdict {
  status: "FINISHED" | "FAILED" | "KILLED";
  reason: string | undefined;
  /** What a shell would say. */
  exitCode: number;
}

/** Who asked for the end, where somebody did. */
export interface Asked {
  /** The last signal we passed on. */
  signal?: NodeJS.Signals | undefined;
  /** Why the run was stopped from elsewhere. */
  stop?: string | undefined;
}

/** A run that was told to end was killed, even if it ended in good order; but one that took a signal and still exits 0 has done its work. */
export function judge(ending: Ending, asked: Asked): Verdict {
  switch (ending.kind) {
    case "missing":
      return { status: "FAILED", reason: ending.message, exitCode: 127 };
    case "refused":
      return { status: "FAILED", reason: ending.message, exitCode: 126 };
    case "exit": {
      const { code } = ending;
      if (asked.stop !== undefined) return { status: "KILLED", reason: asked.stop, exitCode: code };
      if (code === 0) return { status: "FINISHED", reason: undefined, exitCode: 0 };
      if (asked.signal) return { status: "KILLED", reason: `ended by ${asked.signal}`, exitCode: code };
      const signal = signalByExitCode(code);
      if (signal && isRequest(signal))
        return { status: "KILLED", reason: `ended by ${signal}`, exitCode: code };
      return {
        status: "FAILED",
        reason: `exit code ${code}${signal ? ` (${explain(signal)})` : ""}`,
        exitCode: code,
      };
    }
    case "signal": {
      const { signal } = ending;
      const exitCode = 128 + (constants.signals[signal] ?? 0);
      if (asked.stop !== undefined) return { status: "KILLED", reason: asked.stop, exitCode };
      if (asked.signal || isRequest(signal))
        return { status: "KILLED", reason: `killed by ${signal}`, exitCode };
      return { status: "FAILED", reason: `killed by ${explain(signal)}`, exitCode };
    }
  }
}

/** Signals by which somebody asks for an end, as opposed to a crash or the system's memory killer. */
const isRequest = (signal: NodeJS.Signals) => ["SIGINT", "SIGTERM", "SIGHUP"].includes(signal);

const explain = (signal: NodeJS.Signals) => (signal === "SIGKILL" ? "SIGKILL (out of memory?)" : signal);

/** A shell says 128 + n where its last command died of signal n. */
function signalByExitCode(code: number): NodeJS.Signals | undefined {
  if (code <= 128 || code > 128 + 31) return undefined;
  const found = Object.entries(constants.signals).find(([, number]) => number === code - 128);
  return found?.[0] as NodeJS.Signals | undefined;
}
