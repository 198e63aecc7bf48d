-- A writer whose outcome is our own conclusion: it goes on when more of it comes, over a restart, too.
ALTER TABLE writer ADD COLUMN presumed INTEGER NOT NULL DEFAULT 0;
