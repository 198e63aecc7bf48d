-- Runs that are being imported: their points, lines and samples come before their row, so that nothing is seen of them until they
-- are whole. What a crash leaves of them is removed by the next start.
CREATE TABLE unfinished_import (
  run TEXT PRIMARY KEY,
  -- JSON: devices that only this import brings.
  devices TEXT NOT NULL
) WITHOUT ROWID;
