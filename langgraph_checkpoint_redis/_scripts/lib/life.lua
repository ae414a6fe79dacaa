-- Expiry: a thread lives on by its use, and all its keys expire together; the entries that lead to it in the
-- index of runs expire later.
--
-- Of the entries, `indexed` knows: absent, none of them ends; N, all of them stay until then at least;
-- -N, the same, but some stay for longer than the thread needs them. A thread never lives longer than
-- its entries: if it should, they are renewed first, and the thread lives on when that is done
-- (indexed.lua).
--
-- Needs: runs, keys, control, clock
-- Gives: expire_at, runs_to_renew, extend_expiry

-- It begins with what takes no memory, so that a full server still lets readers do it.
local function expire_at(deadline)
  for _, key in ipairs({TIMELINE, WRITES, CHUNKS, RUNS}) do
    redis.call('PEXPIREAT', key, deadline)
  end
  if control.deadline ~= deadline then
    set_control('deadline', deadline)
  end
  keep_control()
end

-- What has to be done so that the entries stay for longer than a thread that lives `span` milliseconds from
-- now: they stay three times as long, and are renewed when it is less than twice. Returns the runs, with
-- their tokens if their entries are to stay for longer, alone if they are to get new ones in their
-- places; and for how many milliseconds.
local function runs_to_renew(span, is_used)
  local indexed = control.indexed and tonumber(control.indexed)
  if not indexed or indexed < 0 then
    return find_runs_here(false), 3 * span
  elseif is_used and indexed < now() + 2 * span then
    return find_runs_here(true), 3 * span
  end
  return {}, 3 * span
end

-- Makes a thread that was written or read live on, for its own time or else for `ttl` milliseconds; 0 is
-- for callers that do not say: then it expires when it would, with all that is new. Returns the runs
-- whose entries have to be renewed, and for how many milliseconds, as `runs_to_renew`.
local function extend_expiry(ttl)
  ttl = tonumber(control.ttl or ttl)
  local is_for_ever = ttl == 0 and not control.deadline or control.ttl == '0'
  if is_for_ever or redis.call('EXISTS', TIMELINE, WRITES) == 0 then -- chunks alone may be ahead of the first row
    return {}, 0
  end
  local deadline = ttl == 0 and time_of('deadline') or now() + ttl
  local has_runs, most = redis.call('EXISTS', RUNS) == 1, deadline
  if has_runs and control.indexed then
    most = math.max(math.abs(tonumber(control.indexed)), time_of('deadline'))
  end
  if deadline > most and not find_runs_here(false)[1] then
    most = deadline
  elseif deadline > most then
    set_control('wanted', integer(deadline))
  end
  expire_at(integer(math.min(deadline, most)))
  if not has_runs then
    return {}, 0
  end
  return runs_to_renew(ttl == 0 and math.max(deadline - now(), 1) or ttl, ttl ~= 0)
end
