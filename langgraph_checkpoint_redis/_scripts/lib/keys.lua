-- The keys of a thread, in the order in which every script that works on one thread gets them. No other library
-- reads KEYS. A script that has further keys reads those itself.
--
-- Gives: TIMELINE, WRITES, CHUNKS, RUNS, LIVE, CONTROL

local TIMELINE, WRITES, CHUNKS, RUNS, LIVE, CONTROL = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
