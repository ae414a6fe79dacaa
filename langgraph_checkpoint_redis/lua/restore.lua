-- Writes a thread as it was stored elsewhere.
--
-- KEYS     timeline, writes, chunks, runs, control of the thread; its copy mark
-- ARGV[1]  a random token of this copy
-- ARGV[2]  how long the mark lasts, in milliseconds
-- ARGV[3], ARGV[4]  how long the thread lives, as control.lua says: its own time to live, and its
--          deadline, empty where there is none
-- ARGV[5...] a dump of each of the first four keys, empty where there is none
-- Returns  1, or 0 when the thread has something already

-- include target

if is_copied(KEYS[6]) then
  mark_target(KEYS[6]) -- a write, which `WAIT` waits for
  return 1
elseif redis.call('EXISTS', KEYS[1], KEYS[2]) > 0 then
  return 0
end
local ttl, deadline = ARGV[3] ~= '' and ARGV[3], ARGV[4] ~= '' and ARGV[4]
for i = 1, 4 do
  if ARGV[i + 4] ~= '' then
    redis.call('RESTORE', KEYS[i], 0, ARGV[i + 4], 'REPLACE')
  end
  if deadline then
    redis.call('PEXPIREAT', KEYS[i], deadline)
  end
end
set_life(KEYS[5], ttl, deadline)
mark_target(KEYS[6])
return 1
