-- Notes which chunks are new that come next, in a transaction, ahead of the script that refers to them.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- ARGV[1]  the digests of the chunks, in one string
-- Returns  nothing
--
-- The note is the field `ahead` of CHUNKS. The script removes it when it has stored its row; otherwise settle.lua
-- does, with the fields that it names.

-- Needs: whole, keys

local new, before = {}, fields_of(CHUNKS)

-- The script cannot tell any more whether there were chunks. It refuses a thread that has lost another key, or a
-- row of which cannot be read: nothing is noted of that.
local was_read, lost = pcall(lost_keys, before, OWN_KEYS)
if was_read and not lost[1] and is_unknown(before) then
  note_unknown()
end
for i, is_there in ipairs(fields_of(CHUNKS)) do
  if is_there and not before[i] then
    new[#new + 1] = FIELDS[i]
  end
end
for i = 1, #ARGV[1], 16 do
  local digest = string.sub(ARGV[1], i, i + 15)
  if redis.call('HEXISTS', CHUNKS, digest) == 0 then
    new[#new + 1] = digest
  end
end
redis.call('HSET', CHUNKS, 'ahead', cmsgpack.pack(new))
