-- Removes chunks that came ahead of a script which stored nothing, at the end of their transaction.
--
-- KEYS     timeline, writes, chunks of the thread
-- Returns  nothing

local TIMELINE, WRITES, CHUNKS = KEYS[1], KEYS[2], KEYS[3]
local EXPIRY = 60000 -- milliseconds

local note = redis.call('HGET', CHUNKS, 'ahead')
if note then
  for _, name in ipairs(cmsgpack.unpack(note)) do
    redis.call('HDEL', CHUNKS, name)
  end
  redis.call('HDEL', CHUNKS, 'ahead')
elseif redis.call('EXISTS', TIMELINE, WRITES) == 0 and redis.call('EXISTS', CHUNKS) == 1 then
  -- Both scripts have failed, but not the command between them: Redis 6.2 asks only before an EVAL, of any client,
  -- whether its memory is full. Which of the chunks are new is not known. Without rows, all of them may go; but
  -- where the fields say that there were rows, these were lost.
  local had_rows = redis.call('HMGET', CHUNKS, 'timeline', 'writes')
  if not had_rows[1] and not had_rows[2] then
    redis.call('PEXPIRE', CHUNKS, EXPIRY)
  end
end
