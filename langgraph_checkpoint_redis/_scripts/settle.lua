-- Removes chunks that came ahead of a script which stored nothing, at the end of their transaction.
--
-- KEYS     chunks of the thread
-- Returns  nothing

local CHUNKS = KEYS[1]
local note = redis.call('HGET', CHUNKS, 'ahead')
if note then
  for _, name in ipairs(cmsgpack.unpack(note)) do
    redis.call('HDEL', CHUNKS, name)
  end
  redis.call('HDEL', CHUNKS, 'ahead')
end
