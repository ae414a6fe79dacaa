-- The target of a copy: its mark says which copy filled it. ARGV[3] and ARGV[4] are the token and the score
-- of new entries that lead to it from runs; `runs.lua` comes before.

-- Whether this very copy was made, and its reply was lost. Then it stays as it is: somebody may have gone on
-- with it.
local function is_copied(mark)
  return redis.call('GET', mark) == ARGV[1]
end

-- Whether there is such an entry for each of some runs, named from ARGV[first] on, that stays for as long as
-- the target lives.
local function are_led_here(runs, first, deadline)
  local led, score = {}, tonumber(ARGV[4])
  for i = first, #ARGV do
    led[ARGV[i]] = true
  end
  for _, run in ipairs(runs) do
    if not led[run] then
      return false
    end
  end
  if score < FAR then
    return deadline and score >= tonumber(deadline)
  end
  return is_good(score, 0)
end

-- Notes that these entries, and no others, lead to the target.
local function hold_entries(target_runs)
  local runs = redis.call('HKEYS', target_runs)
  for _, run in ipairs(runs) do
    local count = tonumber(string.match(redis.call('HGET', target_runs, run), '^-?%d+'))
    if count > 0 then
      redis.call('HSET', target_runs, run, string.format('%.0f', count) .. ' ' .. ARGV[3])
    else
      redis.call('HDEL', target_runs, run)
    end
  end
end

local function mark_target(mark)
  redis.call('SET', mark, ARGV[1], 'PX', ARGV[2])
end

-- Writes down how long the source lives, as control.lua says: its own time to live, and its deadline; and that
-- the entries which lead here end after it, where they end.
local function set_life(control, ttl, deadline)
  redis.call('UNLINK', control)
  if ttl then
    redis.call('HSET', control, 'ttl', ttl)
  end
  if deadline then
    redis.call('HSET', control, 'deadline', deadline)
    if tonumber(ARGV[4]) < FAR then
      redis.call('HSET', control, 'indexed', ARGV[4])
    end
    redis.call('PEXPIREAT', control, deadline)
  end
end
