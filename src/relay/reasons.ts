/** Why something was dropped, where a person wanted it so. */
export const GIVEN_UP = "refused by the destination, and given up";
export const REMOVED = "the destination was removed before it had them";
/** Nobody wanted these. */
export const NO_ROOM = "the disk was almost full, and readings of the hardware were left out";
export const BUSY = "readings came faster than they could be stored, and were left out";
export const THINNED = "the disk was short of room: of these readings only coarser ones were left to send";
export const EXPIRED = "too old before they could be sent: of these readings only coarser ones were left";
export const PRUNED = "removed by --keep-days or --keep-bytes before they could be sent";
/** Its own words follow. */
export const REJECTED = "rejected by the backend";

/** Nobody needs to be told of what they did themselves. */
export const isWanted = (reason: string): boolean => reason === GIVEN_UP || reason === REMOVED;
