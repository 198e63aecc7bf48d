import type { Gpu } from "../device/schema.ts";

/** What a process's environment says of the GPUs it may use. */
export interface GpuEnvironment {
  /** CUDA_VISIBLE_DEVICES. */
  cuda?: string | undefined;
  /** CUDA_DEVICE_ORDER. */
  order?: string | undefined;
  /** NVIDIA_VISIBLE_DEVICES: what its container was given. */
  container?: string | undefined;
  /** Its container is not ours: its numbers count what its container was given, not what we see. */
  elsewhere: boolean;
}

export interface VisibleGpus {
  /** UUIDs; undefined where the environment says nothing. */
  uuids: string[] | undefined;
  /** Why it can't be told which GPUs are meant; null where it can. */
  note: string | null;
}

/**
 * The GPUs that an environment makes visible. CUDA counts by speed unless CUDA_DEVICE_ORDER says PCI_BUS_ID, and by which
 * measure it does not say: among GPUs that are not all alike a number means nothing to us. As CUDA does, a list is read up to
 * the first word that names no GPU, and one that names a GPU twice names none.
 */
export function visibleGpus(environment: GpuEnvironment, gpus: readonly Gpu[]): VisibleGpus {
  const { cuda, order, container, elsewhere } = environment;
  if (container === "void" || container === "none") return { uuids: [], note: null };
  const given = elsewhere ? givenTo(container, gpus) : undefined;
  if (cuda === undefined) return { uuids: given?.map(({ uuid }) => uuid), note: null };

  const whole = inBusOrder((given ?? gpus).filter(({ parent }) => parent === null));
  const tokens = cuda.split(",").map((token) => token.trim());
  const areNumbersClear =
    order === "PCI_BUS_ID" || areAlike(whole) || whole.every((_, index) => tokens.includes(String(index)));
  const found: Gpu[] = [];
  let note: string | null = null;
  for (const token of tokens) {
    const isNumber = /^\d+$/.test(token);
    const gpu = isNumber ? whole[Number(token)] : findByName(token, gpus);
    if (gpu === undefined) break;
    if (isNumber && !areNumbersClear) {
      note = `CUDA_VISIBLE_DEVICES=${cuda} counts the GPUs by speed, and these are not alike: set CUDA_DEVICE_ORDER=PCI_BUS_ID, or name them by UUID.`;
      continue;
    }
    const instances = gpus.filter(({ parent }) => parent === gpu.uuid);
    if (gpu.mig && instances.length !== 1) {
      note = `CUDA_VISIBLE_DEVICES=${cuda} names a GPU that is divided by MIG: name the instance by its UUID.`;
      continue;
    }
    found.push(gpu.mig ? instances[0]! : gpu);
  }
  const uuids = found.map(({ uuid }) => uuid);
  return { uuids: new Set(uuids).size < uuids.length ? [] : uuids, note };
}

/** What a container was given, as its runtime counts: by the driver's numbers, or UUIDs; `0:1` is the second MIG instance of the first. */
function givenTo(container: string | undefined, gpus: readonly Gpu[]): Gpu[] | undefined {
  if (container === undefined || container === "" || container === "all") return undefined;
  return container.split(",").flatMap((word) => {
    const token = word.trim();
    const [, number, instance] = /^(\d+)(?::(\d+))?$/.exec(token) ?? [];
    const gpu =
      number === undefined
        ? findByName(token, gpus)
        : gpus.find(({ parent, index }) => parent === null && index === Number(number));
    if (gpu === undefined || instance === undefined) return gpu ?? [];
    return gpus.filter(({ parent }) => parent === gpu.uuid)[Number(instance)] ?? [];
  });
}

/** A UUID, or as much of it as no other has; `MIG-GPU-…/1/0` names an instance by the numbers it has on its GPU. */
function findByName(token: string, gpus: readonly Gpu[]): Gpu | undefined {
  const [, parent, gpuInstance, computeInstance] = /^MIG-(GPU-[^/]+)\/(\d+)\/(\d+)$/i.exec(token) ?? [];
  if (parent !== undefined)
    return gpus.find(
      (gpu) =>
        gpu.parent?.toLowerCase() === parent.toLowerCase() &&
        gpu.gpu_instance === Number(gpuInstance) &&
        gpu.compute_instance === Number(computeInstance),
    );
  if (!/^(GPU|MIG)-./i.test(token)) return undefined;
  const found = gpus.filter(({ uuid }) => uuid.toLowerCase().startsWith(token.toLowerCase()));
  return found.length === 1 ? found[0] : undefined;
}

const inBusOrder = (gpus: Gpu[]) =>
  [...gpus].sort((left, right) =>
    left.pci !== null && right.pci !== null
      ? left.pci.toLowerCase() < right.pci.toLowerCase()
        ? -1
        : 1
      : left.index - right.index,
  );

const areAlike = (gpus: readonly Gpu[]) =>
  gpus.every(({ name, memory }) => name === gpus[0]!.name && memory === gpus[0]!.memory);
