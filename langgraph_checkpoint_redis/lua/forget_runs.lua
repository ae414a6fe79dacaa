-- Forgets runs that have no checkpoint left in a thread.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- ARGV[1...] run ids
-- Returns  the ids of those that have a checkpoint again

local back = {}
for _, run in ipairs(ARGV) do
  local count = redis.call('HGET', KEYS[4], run)
  if count == '0' then
    redis.call('HDEL', KEYS[4], run)
  elseif count then
    back[#back + 1] = run
  end
end
return back
