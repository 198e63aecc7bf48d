/** Events of the machine and of its sampling, in words. */
import type { NewDeviceEvent } from "../sample/schema.ts";
import { MACHINE } from "../sample/subject.ts";

export const began = (time: number, reason: string): NewDeviceEvent => ({
  subject: MACHINE,
  time,
  kind: "sampling.began",
  text: `Sampling began. ${reason}`,
  detail: { reason },
});

export const ended = (time: number, reason: string): NewDeviceEvent => ({
  subject: MACHINE,
  time,
  kind: "sampling.ended",
  text: `Sampling ended. ${reason}`,
  detail: { reason },
});

/** Processes of a run, or of the machine, that were killed for want of memory. */
export function killed(subject: string, time: number, count: number): NewDeviceEvent {
  const whose = subject === MACHINE ? "on this machine" : "of the run";
  const text =
    count === 1
      ? `A process ${whose} was killed: no memory was left`
      : `${count} processes ${whose} were killed: no memory was left`;
  return { subject, time, kind: "memory.oom_kill", text, detail: { count } };
}

export const jumped = (time: number, ms: number): NewDeviceEvent => ({
  subject: MACHINE,
  time,
  kind: "clock.jumped",
  text: jumpText(ms),
  detail: { ms },
});

function jumpText(ms: number): string {
  const seconds = Math.round(Math.abs(ms) / 100) / 10;
  return ms < 0
    ? `The clock was set back by ${seconds} s`
    : `${seconds} s are missing: the machine slept, its clock was set, or the collector was held up`;
}
