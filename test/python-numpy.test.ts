/** numpy's own scalars, which the client takes without importing numpy. */
import { expect, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { loudly } from "./helpers/binary.ts";
import { python, pythonFolder, runPython, spooledRecords } from "./helpers/python.ts";

const installed = join(import.meta.dirname, "../node_modules/.python");
const PYTHONPATH = [pythonFolder, installed].join(delimiter);

const isThere =
  existsSync(join(installed, "numpy")) &&
  (await runPython("import numpy", { env: { PYTHONPATH } })).code === 0;
const noNumpy =
  !isThere && loudly("scalars of the real numpy: `npm test` installs it where pip and PyPI are");

test.skipIf(noNumpy)(
  "numpy's scalars are logged as the numbers they are, and its random state is left alone",
  async () => {
    const spool = mkdtempSync(join(tmpdir(), "binnacle-numpy-"));
    const script = `
import sys
import binnacle
assert "numpy" not in sys.modules
import numpy as np
np.random.seed(7)
expected = np.random.RandomState(7).random_sample(4).tolist()
drawn = [np.random.random_sample()]
run = binnacle.init()
drawn.append(np.random.random_sample())
binnacle.log({
  "float16": np.float16(0.1), "float32": np.float32(0.1), "float64": np.float64(0.1), "int64": np.int64(2**53 + 1),
  "int8": np.int8(-3), "uint64": np.uint64(2**63), "bool_": np.bool_(True), "false": np.bool_(False),
  "zero_d": np.array(2.5, dtype=np.float32), "zero_d_int": np.array(7), "one": np.array([4.0])[0],
  "nan": np.float32("nan"), "inf": np.float16("inf"), "ninf": -np.float64("inf"), "text": np.str_("a"),
  "list": [np.float32(0.5), np.int32(2)],
})
drawn.append(np.random.random_sample())
binnacle.finish()
drawn.append(np.random.random_sample())
assert drawn == expected, (drawn, expected)
`;
    await python(script, { env: { PYTHONPATH, BINNACLE_SPOOL: spool } });
    const [record] = spooledRecords(spool);
    rmSync(spool, { recursive: true });
    expect(record!.metrics).toEqual({
      // As exact as they are: what float32 makes of 0.1 is not 0.1.
      float16: 0.0999755859375,
      float32: Math.fround(0.1),
      float64: 0.1,
      int64: 2 ** 53,
      int8: -3,
      uint64: 2 ** 63,
      bool_: true,
      false: false,
      zero_d: 2.5,
      zero_d_int: 7,
      one: 4,
      nan: "NaN",
      inf: "Infinity",
      ninf: "-Infinity",
      text: "a",
      list: [0.5, 2],
    });
  },
);
