-- The target of a copy. Its mark has the token of the copy that filled it.
--
-- Needs: clock, control, keys, lease, runs, whole
-- Gives: is_copied, mark_target, refusal_of_copy, are_led_here, hold_entries, begin_life

-- Whether this very copy was made, and its reply was lost. Then the target stays as it is: another run may have
-- gone on with it.
local function is_copied(mark, token)
  return redis.call('GET', mark) == token
end

local function mark_target(mark, token, milliseconds)
  redis.call('SET', mark, token, 'PX', milliseconds)
end

-- Why nothing may be copied to the target, or nil. A copy would cover up that the target has lost its checkpoints.
local function refusal_of_copy(lease_token)
  local refusal = refusal_of(lease_token) or redis.call('EXISTS', TIMELINE, WRITES) > 0 and 'EXISTS'
  local lost = not refusal and lost_keys(fields_of(CHUNKS), OWN)[1]
  return refusal or lost and 'LOST ' .. OWN[lost] or nil
end

-- Calls visit(run, count) for the runs in a hash.
local function each_run_in(key, visit)
  local runs = redis.call('HGETALL', key)
  for i = 1, #runs, 2 do
    visit(runs[i], tonumber(string.match(runs[i + 1], '^-?%d+')))
  end
end

-- Returns whether new entries lead from each run in a hash to the target, and stay for as long as it lives. They
-- have this score, and lead from the runs that `args` name from `first` on.
local function are_led_here(key, args, first, score, deadline)
  local led = {}
  for i = first, #args do
    led[args[i]] = true
  end
  local all = true
  each_run_in(key, function(run, count)
    all = all and (led[run] or count <= 0)
  end)
  if score < FAR then
    return all and deadline and score >= tonumber(deadline)
  end
  return all and is_good(score, 0)
end

-- Notes that these entries, and no others, lead to the target.
local function hold_entries(token)
  each_run_in(RUNS, function(run, count)
    if count > 0 then
      redis.call('HSET', RUNS, run, integer(count) .. ' ' .. token)
    else
      redis.call('HDEL', RUNS, run)
    end
  end)
end

-- Ends a sweep of what was there before, which would free what is there now. Lets the thread live as long as the
-- source does; its lease stays, and so do the marks of its deletion. `score` is that of the new entries.
local function begin_life(ttl, deadline, score)
  redis.call('UNLINK', LIVE)
  forget_life()
  set_own_ttl(ttl)
  if deadline then
    set_control('deadline', deadline)
    if score < FAR then
      set_control('indexed', integer(score))
    end
  end
  for _, key in ipairs({TIMELINE, WRITES, CHUNKS, RUNS}) do
    if deadline then
      redis.call('PEXPIREAT', key, deadline)
    else
      redis.call('PERSIST', key)
    end
  end
  keep_control()
end
