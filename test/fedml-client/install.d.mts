export const versions: string[];
export function findPython(): { python: string; version: string } | undefined;
export function folderFor(pythonVersion: string): string;
export function pythonOf(folder: string): string;
export function clientEnvironment(
  folder: string,
  version: string,
  home: string,
): Record<string, string | undefined>;
