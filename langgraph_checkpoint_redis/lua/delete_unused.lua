-- Deletes a thread as delete.lua does, unless it was used meanwhile, is pinned or has a lease.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- ARGV[1]  the state of the thread, as namespaces.lua returned it
-- Returns  {deleted, runs}: deleted is 1 also when there was no thread any more; runs are the ids of
--          the runs that the thread had checkpoints of

-- include rows
-- include state
-- include control

local function is_in_use()
  local pinned, _, lease = control()
  return pinned or lease or state_of_thread() ~= ARGV[1]
end

if redis.call('EXISTS', TIMELINE, WRITES) > 0 and is_in_use() then
  return {0, {}}
end
redis.call('UNLINK', TIMELINE, WRITES, CHUNKS, KEYS[5], KEYS[6])
local runs = redis.call('HKEYS', RUNS)
for _, run in ipairs(runs) do
  redis.call('HSET', RUNS, run, 0)
end
return {1, runs}
