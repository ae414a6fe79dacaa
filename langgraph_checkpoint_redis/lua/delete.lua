-- Deletes a thread, but for the ids of its runs: they stay until the index of runs is cleared.
--
-- KEYS     timeline, writes, chunks, runs, live of the thread
-- Returns  the ids of the runs that the thread had checkpoints of

redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[5])
local runs = redis.call('HKEYS', KEYS[4])
for _, run in ipairs(runs) do
  redis.call('HSET', KEYS[4], run, 0)
end
return runs
