import type { Collector } from "../collector.ts";
import { createRun } from "../run/create.ts";
import { getOwnRow } from "../run/find.ts";
import { isMemorableName, newRunId } from "../run/name.ts";
import { Label } from "../run/schema.ts";
import { setRun } from "../run/set.ts";
import { nameOf, placeRun, PROJECT } from "./place.ts";
import { answer, readCall, type FedmlHandler } from "./request.ts";
import { textOf } from "./run-list.ts";

/** projects/createSim: a project is no more than its name, which the client hands back as its id. */
export const createProject: FedmlHandler = async (call) =>
  answer(labelOf((await readCall(call))["name"]) ?? PROJECT);

/** runs/createSim: a simulation makes its run. By a run's own secret it is that run, which then takes the names. */
export const createSimulation =
  (collector: Collector): FedmlHandler =>
  async (call) => {
    const fields = await readCall(call);
    const name = labelOf(fields["name"]);
    const project = labelOf(fields["projectid"]) ?? PROJECT;
    if (call.scope.run === undefined) {
      const id = newRunId();
      await createRun(collector, { id, name: name ?? nameOf(id), project });
      return answer(id);
    }
    const run = await placeRun(collector, call.scope, undefined);
    const given = await getOwnRow(collector, run);
    // What a person gave stays.
    const isUnnamed = given.name === nameOf(run) || isMemorableName(given.name);
    const isUnplaced = given.project === PROJECT || given.project === "default";
    await setRun(collector, run, {
      ...(name !== undefined && isUnnamed && { name }),
      ...(isUnplaced && { project }),
    });
    return answer(run);
  };

function labelOf(value: unknown): string | undefined {
  const parsed = Label.safeParse(textOf(value).slice(0, 250));
  return parsed.success ? parsed.data : undefined;
}
