-- Removing checkpoints, and freeing what only they referred to, in as many calls as it takes.
--
-- A removal has stages: 'rows' takes rows away, the newest first, so that a row that stays has all the ancestors
-- that it is rebuilt from, wherever the removal stops. 'timeline' and 'writes' mark what the rows that are left
-- refer to, in the set LIVE. 'chunks' frees what is not marked. These three are a pass, with a number that its
-- positions begin with. A pass that lost its marks begins again, and gives way to another removal that has put
-- its own marks there: the chunks are the other's to free.
--
-- From the first chunk that a pass of several calls frees to the end of one whole pass, the field `swept` stands
-- in CHUNKS. So wherever a removal stops, no writer takes a node's being there for that of what it refers to.
--
-- Needs: run_counts, arrived, closure, live, keys, walk, rows, slices
-- Sets: position, steps
-- Gives: remove_writes, remove_checkpoint, step, pass_name, sweep, check_formats

local function remove_writes(ns, id)
  local key = prefix(ns, id)
  redis.call('ZREMRANGEBYLEX', WRITES, '[' .. key .. '\0', '(' .. key .. '\1')
end

local function remove_checkpoint(row)
  count_runs(head_of(row)[RUN], nil)
  redis.call('ZREM', TIMELINE, row)
  remove_writes(split_row(row))
  forget_arrival(row)
end

local function mark_checkpoint(row)
  each_value(head_of(row), want_entry)
end

local function mark_writes(row)
  each_write(groups_of(row), want_entry)
end

-- Returns those of some fields of CHUNKS that are chunks which nothing uses, as far as this call knows, and, where a
-- pass is continued, its marks.
local function unused(names, continued)
  local found = {}
  for _, name in ipairs(names) do
    local is_unused = #name == DIGEST
    for _, digests in pairs(seen) do
      is_unused = is_unused and not digests[name]
    end
    if is_unused then
      found[#found + 1] = name
    end
  end
  if not continued then
    return found
  end
  local unmarked = {}
  each_slice(#found, function(first, last)
    for i, is_member in ipairs(redis.call('SMISMEMBER', LIVE, unpack(found, first, last))) do
      if is_member == 0 then
        unmarked[#unmarked + 1] = found[first + i - 1]
      end
    end
  end)
  return unmarked
end

local FREED = 16 * 1024 * 1024 -- bytes that a call frees, about
local SCANNED = 100 -- chunks that it looks at in between

local freed = 0
local function free(names)
  for _, name in ipairs(names) do
    freed = freed + redis.call('HSTRLEN', CHUNKS, name)
  end
  call_with_all('HDEL', CHUNKS, names)
  steps = steps - #names
end

-- Returns which process the server is: a cursor means nothing to another one. Nil where the user may not ask.
local function process()
  local text = redis.pcall('INFO', 'server')
  return type(text) == 'string' and string.match(text, 'run_id:(%x+)') or nil
end

-- Frees the unused ones of all chunks, which are all looked at for that. Returns whether all are freed.
local function free_at_once(continued)
  local names = unused(redis.call('HKEYS', CHUNKS), continued)
  position = ''
  for first = 1, #names, 100 do
    if steps <= 0 or freed >= FREED then
      return false
    end
    free({unpack(names, first, math.min(first + 99, #names))})
  end
  return true
end

-- The same for some chunks behind `position`, which is a process and a cursor of it.
local function free_by_cursor(run, continued)
  local cursor = string.match(position, '^' .. run .. ' (%d+)$') or '0'
  repeat
    local reply = redis.pcall('HSCAN', CHUNKS, cursor, 'COUNT', SCANNED, 'NOVALUES')
    if reply.err then -- the server is older than that option
      return free_at_once(continued)
    end
    free(unused(reply[2], continued))
    steps = steps - #reply[2]
    cursor = reply[1]
  until cursor == '0' or steps <= 0 or freed >= FREED
  position = run .. ' ' .. cursor
  return cursor == '0'
end

local function free_chunks(continued)
  expand(1, nil, continued and is_marked)
  local run = redis.call('HLEN', CHUNKS) > STEPS and process()
  if run then
    return free_by_cursor(run, continued)
  end
  return free_at_once(continued)
end

-- Does what a stage has to do: visits the rows of a set, and goes on to the next stage at the end.
local function step(stage, this_stage, next_stage, key, visit, walk_rows)
  if stage == this_stage and (walk_rows or walk)(key, visit) then
    position = ''
    return next_stage
  end
  return stage
end

-- What LIVE has of a pass: how many of its calls its marks are of. So a pass does not go on where a failover has
-- taken back the marks of its last call.
local function pass_name(token, pass, calls)
  return 'sweep:' .. token .. pass .. ' ' .. string.format('%d', calls)
end

-- Frees what nothing refers to any more; without a pass, a new one begins. Returns {stage, position, gone}:
-- where to go on, with an empty stage at the end, and then the ids of the runs that have no checkpoint left in the
-- thread.
local function sweep(token, stage, pass, calls)
  local continued = pass ~= nil
  calls = calls or 0
  if not continued then
    local time = redis.call('TIME')
    pass = time[1] .. string.format('%06d', time[2])
  end
  stage = step(stage, 'timeline', 'writes', TIMELINE, mark_checkpoint)
  stage = step(stage, 'writes', 'chunks', WRITES, mark_writes)
  if stage == 'chunks' and steps > 0 then
    if free_chunks(continued) then
      redis.call('UNLINK', LIVE)
      redis.call('HDEL', CHUNKS, 'swept')
      return {'', '', find_runs_gone()}
    end
    redis.call('HSET', CHUNKS, 'swept', '1')
  end
  if not continued then
    redis.call('UNLINK', LIVE)
  end
  leave_marks(continued, 'of:' .. token, pass_name(token, pass, calls + 1))
  redis.call('SREM', LIVE, pass_name(token, pass, calls))
  redis.call('PEXPIRE', LIVE, EXPIRY)
  return {stage, pass .. ' ' .. string.format('%d', calls + 1) .. ' ' .. position, {}}
end

-- Stops before anything is changed if some key or row cannot be read, in a thread that one call can look
-- through; in a longer one, when it comes to that row.
local function check_formats()
  redis.call('HLEN', CHUNKS)
  redis.call('HLEN', RUNS)
  redis.call('SISMEMBER', LIVE, '')
  if redis.call('ZCARD', TIMELINE) + redis.call('ZCARD', WRITES) <= steps then
    for _, row in ipairs(redis.call('ZRANGE', TIMELINE, 0, -1)) do
      head_of(row)
    end
    for _, row in ipairs(redis.call('ZRANGE', WRITES, 0, -1)) do
      groups_of(row)
    end
  end
end
