-- The target of a copy. Its mark says which copy filled it.

-- Whether this very copy was made, and its reply was lost. Then the target stays as it is: another run may have
-- gone on with it.
local function is_copied(mark)
  return redis.call('GET', mark) == ARGV[1]
end

local function mark_target(mark)
  redis.call('SET', mark, ARGV[1], 'PX', ARGV[2])
end

-- Why nothing may be copied to the target, or nil.
local function refusal_of_copy()
  return refusal_of(ARGV[3]) or redis.call('EXISTS', KEYS[1], KEYS[2]) > 0 and 'EXISTS' or nil
end

-- Ends a sweep of what was there before, which would free what is there now. Lets the thread live as long as the
-- source does; its lease stays, and so do the marks of its deletion.
local function begin_life(ttl, deadline)
  redis.call('UNLINK', KEYS[5])
  forget_life()
  if ttl then
    set_control('ttl', ttl)
  end
  if deadline then
    set_control('deadline', deadline)
  end
  for i = 1, 4 do
    if deadline then
      redis.call('PEXPIREAT', KEYS[i], deadline)
    else
      redis.call('PERSIST', KEYS[i])
    end
  end
  keep_control()
end
