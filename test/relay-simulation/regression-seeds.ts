/** Each told of a mistake once; what they come to changes with the simulation, so that they are only seeds like others by and by. */
export const regressionSeeds: readonly number[] = [
  // History reaches ahead of the cursor: a source went back behind it, unseen.
  1,
  // Numbers of clients were told before what they count.
  3, 4, 7,
  // Deleted runs among entries that history passes over.
  24, 31,
  // A run's introduction was broken off.
  363, 905,
  // A snapshot under an old nonce.
  55, 194, 492,
  // History of a run in which entries of a left life stand.
  1513, 3411, 4436,
  // Another entry at the place to which the platform was taken back, with no digest to show it.
  3548, 5248, 5665, 5817, 7801,
  // An opening that vouches for what only one of its two lives has written.
  8771,
  // A cursor that lies about the entry that comes next.
  6936,
];
