-- Copies a thread inside the server.
--
-- KEYS     timeline, writes, chunks, runs, control of the source; the same of the target; the target's
--          copy mark
-- ARGV[1]  a random token of this copy
-- ARGV[2]  how long the mark lasts, in milliseconds
-- Returns  {copied, runs}: copied is 0 when the target has something already; runs are the ids of
--          the source's runs

-- include target

local runs, life = redis.call('HKEYS', KEYS[4]), redis.call('HMGET', KEYS[5], 'ttl', 'deadline')
if is_copied(KEYS[11]) then
  mark_target(KEYS[11]) -- a write, which `WAIT` waits for
  return {1, runs}
elseif redis.call('EXISTS', KEYS[6], KEYS[7]) > 0 then
  return {0, {}}
end
for i = 1, 4 do
  if redis.call('EXISTS', KEYS[i]) == 1 then
    redis.call('COPY', KEYS[i], KEYS[i + 5], 'REPLACE')
  end
end
set_life(KEYS[10], life[1], life[2])
mark_target(KEYS[11])
return {1, runs}
