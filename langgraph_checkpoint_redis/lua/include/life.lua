-- Expiry: a thread lives on by its use, and all its keys expire together.

-- It begins with what takes no memory, so that a full server still lets readers do it.
local function expire_at(deadline)
  for i = 1, 4 do
    redis.call('PEXPIREAT', KEYS[i], deadline)
  end
  if control.deadline ~= deadline then
    set_control('deadline', deadline)
  end
  keep_control()
end

-- The index of runs must not expire before the threads it leads to. So it lives three times as long as
-- they do, and is renewed before it has only twice that left. Who is told to renew it says when it is done
-- (indexed.lua); until then, everybody is told.
local function runs_to_renew(time, ttl)
  return time_of('indexed') < time + 2 * ttl and redis.call('HKEYS', KEYS[4]) or {}
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
  local runs = runs_to_renew(time, ttl)
  expire_at(integer(time + ttl))
  return runs, 3 * ttl
end

-- The same for a writer who may say how long this thread lives from now on: `own`, or empty.
local function live_on_by(ttl, own)
  if own ~= '' and control.ttl ~= '0' then
    set_control('ttl', own)
  end
  return live_on(ttl)
end
