-- The calls of a removal, from its first stage to its last: see sweep.lua for the stages, removals.lua for what the
-- server knows of it, and arrived.lua for what comes in between.
--
-- Needs: run_counts, removals, whole, keys, sweep, walk
-- Sets: position, steps
-- Gives: remove

-- Goes on with a pass, or begins a new one where its marks are gone.
local function go_on(token, stage, at)
  local pass, calls, start = string.match(at, '^(%d+) (%d+) ()')
  position, calls = string.sub(at, start), tonumber(calls)
  local is_next = redis.call('SISMEMBER', LIVE, pass_name(token, pass, calls)) == 1
  if is_next or redis.call('SISMEMBER', LIVE, pass_name(token, pass, calls + 1)) == 1 then -- or it is repeated
    return sweep(token, stage, pass, calls)
  elseif redis.call('EXISTS', LIVE) == 1 and redis.call('SISMEMBER', LIVE, 'of:' .. token) == 0 then
    return {'', '', find_runs_gone()}
  end
  position = ''
  return sweep(token, 'timeline')
end

-- Looks at rows, or removes some, and goes on to sweep. `progress` is how far the last call came.
local function remove_rows(token, stage, progress, choice)
  position = progress.row or ''
  if position == '' and stage == 'rows' then
    check_whole()
    check_formats()
    if choice.check then
      stage = 'check'
    end
  end
  stage = step(stage, 'check', 'rows', TIMELINE, choice.check)
  if stage == 'rows' then
    if choice.check then
      steps = STEPS -- so that a call which begins to remove rows comes on
    end
    if is_unknown(fields_of(CHUNKS)) then
      note_unknown() -- else rows that stay without writes would pass for those of a thread that has lost its chunks
    end
    local is_changed = false
    note_removal(function()
      is_changed = choice.heed_arrived(progress.is_begun)
      progress.is_begun = true
      stage = is_changed and stage or step(stage, 'rows', 'timeline', TIMELINE, function(row)
        if choice.is_victim(row, progress) then
          remove_checkpoint(row)
        end
      end, walk_back)
    end)
    if is_changed then
      return {'rows', '', {}}
    end
  end
  if stage == 'timeline' then
    return sweep(token, stage)
  end
  progress.row = position
  return {stage, cmsgpack.pack(progress), {}}
end

-- Removes checkpoints, and sweeps. Returns {stage, position, gone}: where to go on, with an empty stage at the end
-- and an empty position to begin again; and at the end the runs that have no checkpoint left in the thread.
--
-- choice.is_victim(row, progress) says which to remove; what it puts into `progress`, it finds there in the next call.
-- choice.check(row), if there is such a function, is called for each row before anything is removed, and may refuse.
-- choice.heed_arrived(is_begun) looks at what has arrived since, where rows were removed already or not; it returns
-- whether it has removed any of that.
local function remove(token, stage, from, choice)
  local calls, progress = 0, {}
  local reply
  if from ~= '' then
    local start
    calls, start = string.match(from, '^(%d+) ()')
    calls, progress = tonumber(calls), string.sub(from, start)
    if redis.call('HGET', CHUNKS, 'freed') == token then -- the last call is repeated, as its reply was lost
      return {'', '', find_runs_gone()}
    elseif not has_done(token, calls) then
      return {'rows', '', {}}
    end
  end
  if stage == 'rows' or stage == 'check' then
    reply = remove_rows(token, stage, from == '' and progress or cmsgpack.unpack(progress), choice)
  else
    reply = go_on(token, stage, progress)
  end
  if reply[1] == '' then
    note_calls(token, nil)
    if calls > 0 and redis.call('EXISTS', CHUNKS) == 1 then
      redis.call('HSET', CHUNKS, 'freed', token)
    end
  elseif reply[2] ~= '' then
    note_calls(token, calls + 1)
    reply[2] = string.format('%d ', calls + 1) .. reply[2]
  end
  return reply
end
