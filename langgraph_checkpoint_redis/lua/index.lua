-- Adds a thread to the index of a run, for some time at least, or for ever.
--
-- KEYS     index of the run
-- ARGV[1]  thread id
-- ARGV[2]  milliseconds; 0 for ever
-- Returns  1

if ARGV[2] == '0' then
  redis.call('PERSIST', KEYS[1])
  redis.call('SADD', KEYS[1], ARGV[1])
  return 1
end
local left = redis.call('PTTL', KEYS[1])
local lives_on = left ~= -1 and left < tonumber(ARGV[2])
if lives_on then -- first, as it takes no memory: a full server still lets readers renew an index
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
redis.call('SADD', KEYS[1], ARGV[1])
if lives_on then -- a new index did not exist before
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1
