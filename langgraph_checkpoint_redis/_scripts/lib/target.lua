-- The target of a copy. Its mark has the token of the copy that filled it.
--
-- Needs: run_counts, control, keys, clock, lease, whole
-- Gives: is_copied, mark_target, find_copy_refusal, have_entries, hold_entries, begin_life

-- Returns whether this very copy was made, and its reply was lost. The target stays the same then: another run may have
-- gone on with it.
local function is_copied(mark, token)
  return redis.call('GET', mark) == token
end

local function mark_target(mark, token, milliseconds)
  redis.call('SET', mark, token, 'PX', milliseconds)
end

-- Returns why nothing may be copied to the target, or nil. A copy would hide that the target has lost its
-- checkpoints.
local function find_copy_refusal(lease_token)
  local refusal = find_refusal(lease_token) or redis.call('EXISTS', TIMELINE, WRITES) > 0 and 'EXISTS'
  local lost = not refusal and lost_keys(fields_of(CHUNKS), OWN_KEYS)[1]
  return refusal or lost and 'LOST ' .. OWN_KEYS[lost] or nil
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
local function have_entries(key, args, first, score, deadline)
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
