import { createBackOff } from "./back-off.ts";
import { bringParts } from "./bring.ts";
import { createGreeter, InUse } from "./greeting.ts";
import { createLine, type DeliverOptions, type DeliveryStatus } from "./line.ts";
import { Refusal } from "./ports.ts";
import { createStream } from "./stream.ts";
import { isDoubt, isForPerson, toTrouble } from "./trouble.ts";

export type { DeliverOptions, DeliveryStatus };

/**
 * Brings the journal to one destination, for ever; resolves when aborted. It stands on nothing but its ports: what it holds in memory
 * may be lost at any await, and what the platform does not say that it has is sent again.
 */
export async function deliver(options: DeliverOptions, signal: AbortSignal): Promise<void> {
  const { clock, random } = options;
  const backOff = createBackOff(random);
  const greeter = createGreeter(clock);
  const stream = createStream(options.window ?? 4);
  /** Asked again without a pause since the last success. */
  let isAskedAgain = false;
  const line = createLine(options, signal, () => {
    backOff.succeeded();
    isAskedAgain = false;
    if (line.status.error || line.status.attempts > 0) line.change({ error: null, attempts: 0 });
  });

  while (!signal.aborted)
    try {
      await greeter.greet(line);
      await tell();
      await stream.run(line);
    } catch (error) {
      if (!signal.aborted) await recover(error);
    }

  /** After a new epoch: what only a life that was left has said of runs is put right. */
  async function tell(): Promise<void> {
    if (line.isTold) return;
    await bringParts(line, undefined, ({ of }) => of === "facts");
    line.isTold = true;
    await line.save();
  }

  async function recover(error: unknown): Promise<void> {
    if (isDoubt(error) && !isAskedAgain) {
      isAskedAgain = true;
      return;
    }
    const retryAfter = error instanceof Refusal ? error.retryAfterMs : undefined;
    const trouble = toTrouble(error, clock.now());
    if (error instanceof InUse) return await pause("in-use", error.waitMs);
    if (isForPerson(error)) return await pause("paused", backOff.paused(retryAfter));
    await pause("waiting", backOff.next(retryAfter));

    async function pause(state: DeliveryStatus["state"], ms: number): Promise<void> {
      const nextTryAt = clock.now() + ms;
      line.change({ state, error: trouble, attempts: backOff.attempts(), nextTryAt, history: null });
      await clock.sleep(ms, signal);
      line.change({ nextTryAt: null });
    }
  }
}
