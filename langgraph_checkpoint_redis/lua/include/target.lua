-- The target of a copy: its mark says which copy filled it.

-- Whether this very copy was made, and its reply was lost. Then it stays as it is: somebody may have gone on
-- with it.
local function is_copied(mark)
  return redis.call('GET', mark) == ARGV[1]
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
