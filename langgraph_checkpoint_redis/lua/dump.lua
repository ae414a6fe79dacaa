-- Reads a thread as it is stored, to restore it elsewhere.
--
-- KEYS     timeline, writes, chunks, runs of the thread
-- Returns  {runs, dump, dump, dump, dump}: a dump of each key, empty where there is none

local dumps = {redis.call('HKEYS', KEYS[4])}
for i = 1, 4 do
  dumps[i + 1] = redis.call('DUMP', KEYS[i]) or ''
end
return dumps
