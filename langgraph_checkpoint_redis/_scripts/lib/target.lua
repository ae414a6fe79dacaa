-- The target of a copy. Its mark says which copy filled it. ARGV[4] and ARGV[5] are the token and the score of new
-- entries that lead to it from runs; `whole.lua`, `runs.lua` and `control.lua` come before.
--
-- Needs: control, lease, rows, runs, whole
-- Gives: is_copied, mark_target, refusal_of_copy, are_led_here, hold_entries, begin_life

-- Whether this very copy was made, and its reply was lost. Then the target stays as it is: another run may have
-- gone on with it.
local function is_copied(mark)
  return redis.call('GET', mark) == ARGV[1]
end

local function mark_target(mark)
  redis.call('SET', mark, ARGV[1], 'PX', ARGV[2])
end

-- Why nothing may be copied to the target, or nil. A copy would cover up that the target has lost its checkpoints.
local function refusal_of_copy()
  local refusal = refusal_of(ARGV[3]) or redis.call('EXISTS', TIMELINE, WRITES) > 0 and 'EXISTS'
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

-- Whether there is an entry for each run in a hash, by the names from ARGV[first] to ARGV[last], that stays for
-- as long as the target lives.
local function are_led_here(key, first, last, deadline)
  local led, score = {}, tonumber(ARGV[5])
  for i = first, last do
    led[ARGV[i]] = true
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
local function hold_entries(target_runs)
  each_run_in(target_runs, function(run, count)
    if count > 0 then
      redis.call('HSET', target_runs, run, string.format('%.0f', count) .. ' ' .. ARGV[4])
    else
      redis.call('HDEL', target_runs, run)
    end
  end)
end

-- Ends a sweep of what was there before, which would free what is there now. Lets the thread live as long as the
-- source does; its lease stays, and so do the marks of its deletion.
local function begin_life(ttl, deadline)
  redis.call('UNLINK', KEYS[5])
  forget_life()
  set_own_ttl(ttl)
  if deadline then
    set_control('deadline', deadline)
    if tonumber(ARGV[5]) < FAR then
      set_control('indexed', ARGV[5])
    end
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
