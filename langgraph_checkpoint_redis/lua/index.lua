-- Adds a thread to the index of a run, for some time at least.
--
-- KEYS     index of the run
-- ARGV[1]  thread id
-- ARGV[2]  milliseconds
-- Returns  1

local left = redis.call('PTTL', KEYS[1])
redis.call('SADD', KEYS[1], ARGV[1])
if left ~= -1 and left < tonumber(ARGV[2]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1
