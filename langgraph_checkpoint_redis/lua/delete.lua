-- Deletes a thread.
--
-- KEYS     timeline, writes, chunks, runs, live of the thread
-- Returns  the ids of the runs that the thread had checkpoints of

local runs = redis.call('SMEMBERS', KEYS[4])
redis.call('UNLINK', unpack(KEYS))
return runs
