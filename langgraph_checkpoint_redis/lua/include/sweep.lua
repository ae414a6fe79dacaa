-- Removing checkpoints, and freeing what only they referred to, in as many calls as it takes.
--
-- A call looks at a bounded number of rows and chunks, and leaves what it found to be live in the set LIVE
-- for the next one. If another sweep has put its own token there meanwhile, this one gives way: the
-- chunks are the other's to free.

local function remove_writes(ns, id)
  local key = prefix(ns, id)
  redis.call('ZREMRANGEBYLEX', WRITES, '[' .. key .. '\0', '(' .. key .. '\1')
end

local function remove_checkpoint(row)
  count_runs(head_of(row)[RUN], nil)
  redis.call('ZREM', TIMELINE, row)
  remove_writes(place_of(row))
end

local function mark_checkpoint(row)
  each_value(head_of(row), want_entry)
end

local function mark_writes(row)
  each_write(groups_of(row), want_entry)
end

-- The digests of some chunks behind `position`, and whether they are the last.
local function next_chunks()
  if position == '' and redis.call('HLEN', CHUNKS) <= steps then
    return redis.call('HKEYS', CHUNKS), true
  end
  local cursor = position == '' and '0' or position
  local reply = redis.pcall('HSCAN', CHUNKS, cursor, 'COUNT', 100, 'NOVALUES')
  local stride = 1
  if reply.err then -- the server is older than that option
    reply, stride = redis.call('HSCAN', CHUNKS, cursor, 'COUNT', 100), 2
  end
  local digests = {}
  for i = 1, #reply[2], stride do
    digests[#digests + 1] = reply[2][i]
  end
  position = reply[1]
  return digests, position == '0'
end

local function free_chunks(is_live)
  while steps > 0 do
    local digests, last = next_chunks()
    local dead = {}
    for _, digest in ipairs(digests) do
      if not is_live(digest) then
        dead[#dead + 1] = digest
      end
    end
    call_with_all('HDEL', CHUNKS, dead)
    steps = steps - #digests
    if last then
      return true
    end
  end
  return false
end

-- Tells whether a chunk is live, as far as this call knows and those before it.
local function live_test(continued)
  expand(1)
  return function(digest)
    for _, digests in pairs(seen) do
      if digests[digest] then
        return true
      end
    end
    return continued and redis.call('SISMEMBER', LIVE, digest) == 1
  end
end

-- Does what a stage has to do: visits the rows of a set, and goes on to the next stage at the end.
local function step(stage, this_stage, next_stage, key, visit)
  if stage == this_stage and walk(key, visit) then
    position = ''
    return next_stage
  end
  return stage
end

-- Frees what nothing refers to any more. Returns {stage, position, gone}: where to go on, with an
-- empty stage at the end, and then the ids of the runs that have no checkpoint left in the thread.
local function sweep(token, stage, continued)
  stage = step(stage, 'timeline', 'writes', TIMELINE, mark_checkpoint)
  stage = step(stage, 'writes', 'chunks', WRITES, mark_writes)
  local is_live = live_test(continued)
  if stage == 'chunks' and free_chunks(is_live) then
    redis.call('UNLINK', LIVE)
    return {'', '', runs_gone()}
  end
  if not continued then
    redis.call('UNLINK', LIVE)
  end
  leave_marks(token)
  return {stage, position, {}}
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

-- Removes the checkpoints for which is_victim(row) holds, and sweeps. Returns as `sweep` does.
local function remove(token, stage, from, is_victim)
  position = from
  if stage ~= 'rows' then
    local is_mine = redis.call('SISMEMBER', LIVE, 'sweep:' .. token) == 1
    return is_mine and sweep(token, stage, true) or {'', '', runs_gone()}
  end
  if from == '' then
    check_formats()
  end
  stage = step(stage, 'rows', 'timeline', TIMELINE, function(row)
    if is_victim(row) then
      remove_checkpoint(row)
    end
  end)
  return stage == 'timeline' and sweep(token, stage, false) or {stage, position, {}}
end
