-- Reads a thread as it is stored, to restore it elsewhere.
--
-- KEYS     timeline, writes, chunks, runs, control of the thread
-- Returns  {runs, time, span, ttl, deadline, dump, dump, dump, dump}: the runs that have checkpoints here, the
--          server's time, how many milliseconds the thread lives on if it is used, 0 for ever; how long it
--          lives, as control.lua says, and a dump of each key; empty is what there is not

-- include runs

local life = redis.call('HMGET', KEYS[5], 'ttl', 'deadline')
local time = server_time()
local span = life[2] and math.max(tonumber(life[1] or 0), tonumber(life[2]) - time, 1) or 0
local dumps = {runs_here(false), time, span, life[1] or '', life[2] or ''}
for i = 1, 4 do
  dumps[i + 5] = redis.call('DUMP', KEYS[i]) or ''
end
return dumps
