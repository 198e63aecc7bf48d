import type { DeliveryStatus } from "./line.ts";

/** Texts that are remembered as said; with more of them it begins anew. */
const MAX_SAID = 50;

/** Lines for whoever runs the collector. */
export interface Diagnosis {
  tell(name: string, status: DeliveryStatus): void;
  forget(name: string): void;
}

interface Told {
  said: Set<string>;
  /** The last line was of trouble, which began where so much had arrived. */
  trouble: { acked: number } | undefined;
}

/** Each thing once until it changes, however often it is tried, and whatever it alternates with. */
export function createDiagnosis(say: (text: string) => void): Diagnosis {
  const toldByName = new Map<string, Told>();

  return {
    tell(name, { state, error, notice, acked, attempts, nextTryAt }) {
      const told = toldByName.get(name) ?? { said: new Set(), trouble: undefined };
      toldByName.set(name, told);
      if (notice !== null && isNew(told, notice.message)) say(`relay ${name}: ${notice.message}`);
      if (error === null) {
        // To be answered is not yet to get on: who lies takes what comes before the lie.
        if (!told.trouble || (state !== "idle" && acked <= told.trouble.acked)) return;
        told.trouble = undefined;
        say(`relay ${name}: goes on.`);
        return;
      }
      // Between two tries it is in no other trouble.
      if (nextTryAt === null) return;
      const isFirst = isNew(told, `${state} ${error.message}`);
      // What was said before, and is over at the next try, is not said for ever with its end.
      const isBack = !told.trouble && (state === "paused" || attempts > 1);
      if (!isFirst && !isBack) return;
      told.trouble ??= { acked };
      say(`relay ${name}: ${error.message}${error.hint === null ? "" : ` ${error.hint}`}`);
    },
    forget: (name) => void toldByName.delete(name),
  };
}

/** Numbers are others at each try. */
function isNew({ said }: Told, message: string): boolean {
  const text = message.replaceAll(/\d+/g, "0");
  if (said.has(text)) return false;
  if (said.size >= MAX_SAID) said.clear();
  said.add(text);
  return true;
}
