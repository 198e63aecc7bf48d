import { CollectorError, type ErrorCode } from "../error.ts";

export const ExitCode = { ok: 0, failed: 1, usage: 2, notFound: 3, unreachable: 4, refused: 5 } as const;

/** The command line itself is wrong; `command` is whose help to read. */
export class UsageError extends Error {
  override readonly name = "UsageError";
  readonly command: string | undefined;

  constructor(message: string, command?: string) {
    super(message);
    this.command = command;
  }
}

/** Somebody ended it; the message says what is done and what to do next. */
export class Interrupted extends Error {
  override readonly name = "Interrupted";
  readonly exitCode: number;

  constructor(message: string, exitCode: number) {
    super(message);
    this.exitCode = exitCode;
  }
}

const exitCodeByError: Record<ErrorCode, number> = {
  invalid: ExitCode.usage,
  unauthorized: ExitCode.refused,
  forbidden: ExitCode.refused,
  misdirected: ExitCode.refused,
  beyond: ExitCode.refused,
  "not-found": ExitCode.notFound,
  gone: ExitCode.notFound,
  conflict: ExitCode.refused,
  "sequence-gap": ExitCode.failed,
  "source-in-use": ExitCode.refused,
  epoch: ExitCode.refused,
  circle: ExitCode.refused,
  "unknown-kind": ExitCode.refused,
  "unknown-run": ExitCode.refused,
  "too-large": ExitCode.refused,
  unsupported: ExitCode.refused,
  busy: ExitCode.failed,
  "disk-full": ExitCode.failed,
  damaged: ExitCode.failed,
  unreachable: ExitCode.unreachable,
  internal: ExitCode.failed,
};

export function exitCodeOf(error: unknown): number {
  if (error instanceof UsageError) return ExitCode.usage;
  if (error instanceof Interrupted) return error.exitCode;
  if (error instanceof CollectorError) return exitCodeByError[error.code];
  return ExitCode.failed;
}

/** One line: what happened, and what to do next. */
export function errorLine(error: unknown, program: string): string {
  if (error instanceof UsageError) {
    const help = [program, error.command, "--help"].filter(Boolean).join(" ");
    return `${program}: ${error.message} See: ${help}`;
  }
  if (error instanceof CollectorError)
    return `${program}: ${error.hint ? `${error.message.replace(/[^.!?]$/, "$&.")} ${error.hint}` : error.message}`;
  if (error instanceof Error) return `${program}: ${error.message}`;
  return `${program}: ${String(error)}`;
}
