-- Makes entries in the index of a run, or lets them stay for longer.
--
-- KEYS     index of the run
-- ARGV[1]  milliseconds that they stay, at least; 0 for ever
-- ARGV[2...] entries: the thread id, NUL, a token
-- Returns  the score that they have at least

-- Needs: entries, clock

local INDEX, time = KEYS[1], now()
purge_entries(INDEX, time)
local score = ARGV[1] == '0' and FAR + time or time + ARGV[1]
for i = 2, #ARGV do
  local before = redis.call('ZSCORE', INDEX, ARGV[i])
  if not before or tonumber(before) < math.min(score, FAR) then
    redis.call('ZADD', INDEX, integer(score), ARGV[i])
  end
end
expire_with_entries(INDEX)
return score
