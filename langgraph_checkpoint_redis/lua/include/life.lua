-- Expiry: a thread lives on by its use, and all its keys expire together.

local function expire_at(deadline)
  for i = 1, 4 do
    redis.call('PEXPIREAT', KEYS[i], deadline)
  end
  keep_control()
end

-- The index of runs must not expire before the threads it leads to. So it lives three times as long as
-- they do, and is renewed before it has only twice that left.
local function runs_to_renew(time, ttl)
  if time_of('indexed') >= time + 2 * ttl then
    return {}
  end
  set_control('indexed', integer(time + 3 * ttl))
  return redis.call('HKEYS', KEYS[4])
end

-- Makes a thread that was written or read live on, for its own time or else for `ttl` milliseconds; 0 is
-- for callers that do not say: then it expires when it would, with all that is new. Returns the runs
-- whose index has to be renewed, and for how many milliseconds.
local function live_on(ttl)
  ttl = tonumber(control.ttl or ttl)
  local is_for_ever = ttl == 0 and not control.deadline or control.ttl == '0'
  if is_for_ever or redis.call('EXISTS', KEYS[1], KEYS[2], KEYS[3], KEYS[4]) == 0 then
    return {}, 0
  elseif ttl == 0 then
    expire_at(control.deadline)
    return {}, 0
  end
  local time = now()
  set_control('deadline', integer(time + ttl))
  local runs = runs_to_renew(time, ttl)
  expire_at(control.deadline)
  return runs, 3 * ttl
end

-- The same for a writer who may say how long this thread lives from now on: `own`, or empty.
local function live_on_by(ttl, own)
  if own ~= '' and control.ttl ~= '0' then
    set_control('ttl', own)
  end
  return live_on(ttl)
end
