-- Reads a thread as it is stored, to restore it elsewhere.
--
-- KEYS     timeline, writes, chunks, runs, control of the thread
-- Returns  {runs, ttl, deadline, dump, dump, dump, dump}: how long it lives, as control.lua says, and a
--          dump of each key; empty is what there is not

local life = redis.call('HMGET', KEYS[5], 'ttl', 'deadline')
local dumps = {redis.call('HKEYS', KEYS[4]), life[1] or '', life[2] or ''}
for i = 1, 4 do
  dumps[i + 3] = redis.call('DUMP', KEYS[i]) or ''
end
return dumps
