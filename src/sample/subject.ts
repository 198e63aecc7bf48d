/** Apart from the schemas: the dashboard's scripts need the names, and not what checks them. */

/** Subject of a device's own readings. Others: "cgroup", a GPU's or MIG instance's UUID, "run/<run id>". */
export const MACHINE = "";
/** Subject of the readings of the container the collector runs in. */
export const CGROUP = "cgroup";

/** Subject of the readings of a run's processes. */
export const subjectOfRun = (run: string): string => `run/${run}`;

/** The run whose processes a subject stands for; undefined for any other subject. */
export const runOfSubject = (subject: string): string | undefined =>
  subject.startsWith("run/") ? subject.slice(4) : undefined;
