/** The one import of the foreign function interface: it brings a native addon, which only the process that reads GPUs needs. */
import koffi from "koffi";

export default koffi;
