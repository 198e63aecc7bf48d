-- Versions whose files a destination of FedML's protocol has still to get: they go beside the ordered entries.
CREATE TABLE relay_upload (
  destination TEXT NOT NULL REFERENCES destination (name) ON DELETE CASCADE,
  seq INTEGER NOT NULL,
  -- The whole entry as one frame of the wire.
  frame BLOB NOT NULL,
  -- Bytes and number of its files.
  bytes INTEGER NOT NULL,
  files INTEGER NOT NULL,
  PRIMARY KEY (destination, seq)
);
