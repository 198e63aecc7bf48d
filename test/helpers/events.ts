import { eventsOf, type ServerEvent } from "../../src/client/typescript/events.ts";

export interface TestEvent extends ServerEvent {
  // eslint-disable-next-line typescript/no-explicit-any -- a test asserts the shape itself
  json: any;
}

export interface EventReader {
  /** The next event; fails after 5 seconds of silence. */
  next(): Promise<TestEvent>;
  /** Goes on to the next event of this name. */
  until(event: string): Promise<TestEvent>;
  /** Resolves when the server has ended the stream. */
  ended(): Promise<void>;
  close(): Promise<void>;
}

export function readEvents(response: Response): EventReader {
  const events = eventsOf(response, { silence: 5000 });
  async function next(): Promise<TestEvent> {
    const { value, done } = await events.next();
    if (done) throw new Error("the stream has ended");
    return { ...value, json: JSON.parse(value.data) };
  }
  return {
    next,
    async until(event) {
      for (;;) {
        const found = await next();
        if (found.event === event) return found;
      }
    },
    async ended() {
      while (!(await events.next()).done);
    },
    async close() {
      await events.return(undefined);
      // A generator that was never asked has not begun, and so has nothing to clean up.
      if (!response.body!.locked) await response.body!.cancel();
    },
  };
}
