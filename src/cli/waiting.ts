import type { CollectorError } from "../error.ts";
import { errorLine } from "./error.ts";
import { age } from "./units.ts";

/** Why nothing moves: said once, then no more often than people look. */
export interface Waiting {
  /** What to say of it now, in a line of its own; undefined: it is known. */
  begin(error: CollectorError): string | undefined;
  /** Something has come through. Who meets a full disk gets small requests through, and waits on. */
  end(): void;
  /** "for room, 35 s"; undefined: nothing has waited yet. */
  since(): string | undefined;
}

const AGAIN_MS = 30_000;

/** `isShown`: how long it has been is in sight anyway. */
export function createWaiting(program: string, now: () => number, isShown: boolean): Waiting {
  const states = new Map<string, State>();
  let current: State | undefined;

  return {
    begin(error) {
      const time = now();
      const known = states.get(error.code);
      const isGoingOn = known && (known.ended === undefined || time - known.ended < AGAIN_MS);
      current = isGoingOn ? known : { code: error.code, begun: time, told: time, ended: undefined };
      states.set(error.code, current);
      if (!isGoingOn) return `${errorLine(error, program)} ${nextOf(error)}\n`;
      current.ended = undefined;
      if (isShown || time - current.told < AGAIN_MS) return undefined;
      current.told = time;
      return `${program}: Still waiting ${whatOf(error.code)}, ${age(time - current.begun)} by now. ${error.message}\n`;
    },
    end() {
      for (const state of states.values()) state.ended ??= now();
    },
    since: () => current && `${whatOf(current.code)}, ${age(now() - current.begun)}`,
  };
}

interface State {
  code: string;
  begun: number;
  told: number;
  ended: number | undefined;
}

const isFull = (code: string) => code === "disk-full";
const whatOf = (code: string) => (isFull(code) ? "for room" : "for the collector");
const nextOf = ({ code }: CollectorError) =>
  isFull(code) ? "Waiting for room; Ctrl-C ends this, and what was sent is kept." : "Trying again.";
