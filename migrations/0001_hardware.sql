-- A machine. `facts` is JSON: what does not change while it is up, its GPUs with it.
CREATE TABLE device (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  facts TEXT NOT NULL,
  first_seen REAL NOT NULL,
  last_seen REAL NOT NULL
) WITHOUT ROWID;

-- A run's life on a device, and what it used there.
CREATE TABLE run_device (
  run TEXT NOT NULL REFERENCES run (id) ON DELETE CASCADE,
  device TEXT NOT NULL,
  "from" REAL NOT NULL,
  "to" REAL,
  attribution TEXT,
  cpu_seconds REAL NOT NULL DEFAULT 0,
  -- JSON: by UUID what it used of each GPU.
  gpus TEXT NOT NULL DEFAULT '{}',
  -- What of it could not be found out, in words.
  note TEXT,
  PRIMARY KEY (run, device)
) WITHOUT ROWID;

CREATE INDEX run_device_device ON run_device (device);

CREATE TABLE device_event (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  device TEXT NOT NULL,
  subject TEXT NOT NULL,
  time REAL NOT NULL,
  kind TEXT NOT NULL,
  text TEXT NOT NULL,
  detail TEXT NOT NULL DEFAULT '{}'
);

CREATE INDEX device_event_time ON device_event (device, time);

-- Samples of one subject of a device over one span of time, every reading a column. `tier` is the seconds between two rows:
-- 1 as they were read, above that min, mean and max. Times are ms since the epoch.
CREATE TABLE sample_chunk (
  device TEXT NOT NULL,
  subject TEXT NOT NULL,
  tier INTEGER NOT NULL,
  start REAL NOT NULL,
  last REAL NOT NULL,
  count INTEGER NOT NULL,
  -- 1 for one of the lowest tier that the tiers above do not hold yet.
  open INTEGER NOT NULL DEFAULT 0,
  data BLOB NOT NULL
);

CREATE UNIQUE INDEX sample_chunk_start ON sample_chunk (device, subject, tier, start);
CREATE INDEX sample_chunk_age ON sample_chunk (tier, last);
-- What there is of a run, on any device.
CREATE INDEX sample_chunk_subject ON sample_chunk (subject);
CREATE INDEX sample_chunk_open ON sample_chunk (open) WHERE open = 1;

-- One row: journal entries up to `seq` have no sample that is not in a chunk.
CREATE TABLE sample_sealed (seq INTEGER NOT NULL);
INSERT INTO sample_sealed (seq) VALUES (0);

-- When a writer's process started, in ticks since boot: with its pid it is one process and no other.
ALTER TABLE writer ADD COLUMN start INTEGER;
