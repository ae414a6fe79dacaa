-- Copies a thread inside the server.
--
-- KEYS     timeline, writes, chunks, runs, control of the source; the same of the target; the target's
--          copy mark
-- ARGV[1]  a random token of this copy
-- ARGV[2]  how long the mark lasts, in milliseconds
-- Returns  {copied, runs}: copied is 0 when the target has something already; runs are the ids of
--          the source's runs

-- include target

if not target_is_free(KEYS[6], KEYS[7], KEYS[11]) then
  return {0, {}}
end
for i = 1, 4 do
  if redis.call('EXISTS', KEYS[i]) == 1 then
    redis.call('COPY', KEYS[i], KEYS[i + 5], 'REPLACE')
  end
end
set_life(KEYS[10], unpack(redis.call('HMGET', KEYS[5], 'ttl', 'deadline')))
mark_target(KEYS[11])
return {1, redis.call('HKEYS', KEYS[4])}
