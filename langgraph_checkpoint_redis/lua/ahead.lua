-- Notes which chunks are new that come next, in a transaction, ahead of the script that refers to them.
--
-- KEYS     timeline, writes, chunks of the thread
-- ARGV[1]  the digests of the chunks, in one string
-- Returns  nothing
--
-- The note is the field `ahead` of CHUNKS. The script removes it when it has stored its row; otherwise settle.lua
-- does, with the fields that it names.

local TIMELINE, WRITES, CHUNKS = KEYS[1], KEYS[2], KEYS[3]
local new = {}

-- As note_rows does for the script (see whole.lua), which cannot tell any more whether there were chunks.
local noted = redis.call('HMGET', CHUNKS, 'timeline', 'writes', 'swept', 'lost')
if not (noted[1] or noted[2] or noted[3] or noted[4]) and redis.call('EXISTS', TIMELINE, WRITES) > 0 then
  new[1] = redis.call('EXISTS', CHUNKS) == 1 and 'swept' or 'lost'
  for name, key in pairs({timeline = TIMELINE, writes = WRITES}) do
    if redis.call('EXISTS', key) == 1 then
      new[#new + 1] = name
    end
  end
end
local fields = #new
for i = 1, #ARGV[1], 16 do
  local digest = string.sub(ARGV[1], i, i + 15)
  if redis.call('HEXISTS', CHUNKS, digest) == 0 then
    new[#new + 1] = digest
  end
end
redis.call('HSET', CHUNKS, 'ahead', cmsgpack.pack(new))
for i = 1, fields do
  redis.call('HSET', CHUNKS, new[i], '1')
end
