-- Copies a thread inside the server.
--
-- KEYS     timeline, writes, chunks, runs, control of the source; the same of the target; the target's
--          copy mark
-- ARGV[1]  a random token of this copy
-- ARGV[2]  how long the mark lasts, in milliseconds
-- ARGV[3], ARGV[4]  the token and the score of new entries that lead from runs to the target
-- ARGV[5...] the runs that have one
-- Returns  1; 0 when the target has something already; 2, and nothing was written, when entries are
--          lacking, or may be gone too soon

-- include runs
-- include target

local life = redis.call('HMGET', KEYS[5], 'ttl', 'deadline')
if is_copied(KEYS[11]) then
  mark_target(KEYS[11]) -- a write, which `WAIT` waits for
  return 1
elseif redis.call('EXISTS', KEYS[6], KEYS[7]) > 0 then
  return 0
elseif not are_led_here(runs_here(false), 5, life[2]) then
  return 2
end
for i = 1, 4 do
  if redis.call('EXISTS', KEYS[i]) == 1 then
    redis.call('COPY', KEYS[i], KEYS[i + 5], 'REPLACE')
  end
end
set_life(KEYS[10], life[1], life[2])
hold_entries(KEYS[9])
mark_target(KEYS[11])
return 1
