import type { Session } from "./contract.ts";
import type { Clock, DeadLetter, Identity, Outbox, Random, Transport } from "./ports.ts";
import { Changed, Stuck, type Trouble } from "./trouble.ts";

export interface DeliveryStatus {
  state: "starting" | "history" | "sending" | "idle" | "waiting" | "paused" | "in-use";
  /** What is wrong; null while nothing is. */
  error: Trouble | null;
  /** What a person should know though nothing is wrong any more. */
  notice: Trouble | null;
  acked: number;
  /** Failures since the last success. */
  attempts: number;
  /** ms since the epoch; null while nothing is being waited for. */
  nextTryAt: number | null;
  /** Parts of it that are up to date, while history is sent. */
  history: { done: number; total: number | null } | null;
}

export interface DeliverOptions {
  outbox: Outbox;
  transport: Transport;
  clock: Clock;
  random: Random;
  /** Installations that the data comes through: ours first. */
  path: () => string[];
  facts: { host: string; version: string };
  onChange?: (status: DeliveryStatus) => void;
  /** Batches under way at once, at most. */
  window?: number;
}

/** So many entries refused in a row, and none taken: it is not they who are wrong. */
const MAX_STREAK = 100;

/** One destination's way, from the greeting that it stands on. */
export interface Line extends Omit<DeliverOptions, "onChange" | "window"> {
  readonly window: number;
  readonly signal: AbortSignal;
  readonly status: Readonly<DeliveryStatus>;
  change(changes: Partial<DeliveryStatus>): void;
  /** Whom we greeted as. */
  session: Session;
  identity: Identity;
  /** By the platform's last word. */
  acked: number;
  /** Runs that the platform has in part. */
  partial: string[];
  /**
   * In this epoch the platform has been told how all runs are. After one that ended, others may stand there as a life that was left has
   * made them.
   */
  isTold: boolean;
  /** When it last took or answered something, monotonic. */
  heardAt: number;
  /** The platform took something. */
  progress(): void;
  /** Nothing is wrong. */
  well(): void;
  /** Throws where the installation is no longer the one that greeted: another destination found a reason. */
  check(): void;
  /** Makes what is known durable, if there is anything new. */
  save(): Promise<void>;
  /** Refused for good: durable before it is passed over. */
  bury(letters: DeadLetter[]): Promise<void>;
}

export function createLine(
  { onChange = () => {}, window = 4, ...options }: DeliverOptions,
  signal: AbortSignal,
  onWell: () => void,
): Line {
  const { outbox, clock } = options;
  const identity = outbox.identity();
  let status: DeliveryStatus = {
    state: "starting",
    error: null,
    notice: null,
    acked: outbox.state().acked,
    attempts: 0,
    nextTryAt: null,
    history: null,
  };
  let streak = 0;

  const line: Line = {
    ...options,
    window,
    signal,
    get status() {
      return status;
    },
    change(changes) {
      status = { ...status, ...changes };
      onChange(status);
    },
    session: { epoch: identity.epoch, nonce: identity.nonce, turn: 0, path: options.path() },
    identity,
    acked: status.acked,
    partial: [],
    isTold: false,
    heardAt: clock.monotonic(),
    progress() {
      streak = 0;
      line.heardAt = clock.monotonic();
      onWell();
    },
    well: onWell,
    check() {
      const { id, epoch, nonce } = outbox.identity();
      if (id !== line.identity.id || epoch !== line.identity.epoch || nonce !== line.identity.nonce)
        throw new Changed("The installation has begun a new epoch.");
    },
    save: () => put([]),
    async bury(letters) {
      if (streak >= MAX_STREAK) {
        // One more at each attempt, for as long as it takes.
        streak = MAX_STREAK - 1;
        throw new Stuck(`The platform refused ${MAX_STREAK} entries in a row, and took none.`);
      }
      streak += letters.length;
      await put(letters);
    },
  };

  async function put(letters: DeadLetter[]): Promise<void> {
    const { acked } = line;
    const state = outbox.state();
    const epoch = line.isTold ? line.identity.epoch : state.epoch;
    if (letters.length > 0 || state.acked !== acked || state.epoch !== epoch)
      await outbox.save({ ...state, epoch, acked }, letters);
  }

  return line;
}
