import { CollectorError, type ErrorCode } from "../error.ts";

/** What FedML's clients, or who pretends to be one, can do wrong: in the order and words of `binnacle doctor`. */
export const FEDML_COUNTS = {
  malformed: "messages that are no JSON, or not of the form that their address wants",
  "unknown-topic": "messages on topics that carry nothing to keep",
  "wrong-secret": "requests to addresses whose secret is none of ours, or no longer",
  "wrong-password": "MQTT connections with a password that is none of ours, or no longer",
  "bad-key": "API keys that are no token of ours",
  forbidden: "API keys that do not reach as far as they were used",
  "too-large": "messages and bodies beyond the bounds",
  "unknown-address": "requests for what this edge does not serve",
  unsigned: "requests to the storage whose signature does not hold",
  "bad-object": "names of objects that are no names",
  "bad-run": "run ids that are none",
  gone: "data for runs that were deleted",
  "not-ours": "data for runs that a source relays here",
  replayed: "packets that came again, taken once",
  retained: "messages asked to be retained: kept once, served to nobody again",
  "broken-off": "connections that ended in the middle of something",
  refused: "messages that were refused for another reason",
} as const;

export type FedmlCount = keyof typeof FEDML_COUNTS;

export interface CountedFedml {
  what: FedmlCount;
  count: number;
  /** ms since the epoch. */
  last: number;
}

/** What went wrong at the FedML edge since the start: one number a reason, whatever comes. */
export interface FedmlCounts {
  add(what: FedmlCount, n?: number): void;
  /** Those that happened, in the order of FEDML_COUNTS. */
  list(): CountedFedml[];
}

export function createCounts(now: () => number = Date.now): FedmlCounts {
  const countedByName = new Map<FedmlCount, CountedFedml>();
  return {
    add(what, n = 1) {
      const counted = countedByName.get(what) ?? { what, count: 0, last: 0 };
      counted.count += n;
      counted.last = now();
      countedByName.set(what, counted);
    },
    list: () =>
      (Object.keys(FEDML_COUNTS) as FedmlCount[]).flatMap((what) => {
        const counted = countedByName.get(what);
        return counted ? [{ ...counted }] : [];
      }),
  };
}

const COUNT_BY_CODE: Partial<Record<ErrorCode, FedmlCount>> = {
  invalid: "malformed",
  unsupported: "malformed",
  "too-large": "too-large",
  unauthorized: "bad-key",
  forbidden: "forbidden",
  gone: "gone",
  conflict: "not-ours",
};

/** Where an error is counted: `details.fedml` says so, else its code. Undefined: a run that is not there is nobody's fault. */
export function countOf(error: unknown): FedmlCount | undefined {
  if (!(error instanceof CollectorError)) return "refused";
  const said = error.details?.["fedml"];
  if (typeof said === "string" && Object.hasOwn(FEDML_COUNTS, said)) return said as FedmlCount;
  return error.code === "not-found" ? undefined : (COUNT_BY_CODE[error.code] ?? "refused");
}
