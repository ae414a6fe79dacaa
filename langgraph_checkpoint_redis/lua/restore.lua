-- Writes a thread as it was stored elsewhere.
--
-- KEYS     timeline, writes, chunks, runs, control of the thread; its copy mark
-- ARGV[1]  a random token of this copy
-- ARGV[2]  how long the mark lasts, in milliseconds
-- ARGV[3], ARGV[4]  the token and the score of new entries that lead from all its runs to the thread
-- ARGV[5], ARGV[6]  how long the thread lives, as control.lua says: its own time to live, and its
--          deadline, empty where there is none
-- ARGV[7...] a dump of each of the first four keys, empty where there is none
-- Returns  1; 0 when the thread has something already; 2, and nothing was written, when the entries may
--          be gone too soon

-- include runs
-- include target

local ttl, deadline = ARGV[5] ~= '' and ARGV[5], ARGV[6] ~= '' and ARGV[6]
if is_copied(KEYS[6]) then
  mark_target(KEYS[6]) -- a write, which `WAIT` waits for
  return 1
elseif redis.call('EXISTS', KEYS[1], KEYS[2]) > 0 then
  return 0
elseif not are_led_here({}, 7, deadline) then
  return 2
end
for i = 1, 4 do
  if ARGV[i + 6] ~= '' then
    redis.call('RESTORE', KEYS[i], 0, ARGV[i + 6], 'REPLACE')
  end
  if deadline then
    redis.call('PEXPIREAT', KEYS[i], deadline)
  end
end
set_life(KEYS[5], ttl, deadline)
hold_entries(KEYS[4])
mark_target(KEYS[6])
return 1
