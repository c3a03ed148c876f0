-- Which permissions the first sender of a request held, as a set of bits: an answer is repeated only to who still holds
-- them all. 0 where that was not noted.

ALTER TABLE idempotency ADD COLUMN held INTEGER NOT NULL DEFAULT 0;
