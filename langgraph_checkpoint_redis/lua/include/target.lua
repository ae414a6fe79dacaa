-- The target of a copy: free, or filled by this very copy, whose reply was lost.

local function target_is_free(timeline, writes, mark)
  return redis.call('GET', mark) == ARGV[1] or redis.call('EXISTS', timeline, writes) == 0
end

local function mark_target(mark)
  redis.call('SET', mark, ARGV[1], 'PX', ARGV[2])
end

-- Writes down how long the source lives, as control.lua says: its own time to live, and its deadline.
local function set_life(control, ttl, deadline)
  redis.call('UNLINK', control)
  if ttl then
    redis.call('HSET', control, 'ttl', ttl)
  end
  if deadline then
    redis.call('HSET', control, 'deadline', deadline)
    redis.call('PEXPIREAT', control, deadline)
  end
end
