-- Removing rows, and freeing what only they referred to.

local function remove_checkpoint(row)
  local ns, id = place_of(row)
  redis.call('ZREM', TIMELINE, row)
  local key = prefix(ns, id)
  redis.call('ZREMRANGEBYLEX', WRITES, '[' .. key .. '\0', '(' .. key .. '\1')
end

local function each_row(key, visit)
  local first = 0
  repeat
    local rows = redis.call('ZRANGE', key, first, first + 999)
    for _, row in ipairs(rows) do
      visit(row)
    end
    first = first + 1000
  until #rows < 1000
end

-- Deletes every chunk that no row refers to. Returns the ids of the runs that have no checkpoint
-- left in the thread, and forgets them.
local function sweep()
  local live_runs = {}
  each_row(TIMELINE, function(row)
    local head = head_of(row)
    live_runs[head[RUN] or ''] = true
    each_value(head, want_entry)
  end)
  each_row(WRITES, function(row)
    each_write(groups_of(row), want_entry)
  end)
  expand(1, function() end)

  local dead = {}
  for _, digest in ipairs(redis.call('HKEYS', CHUNKS)) do
    local live = false
    for _, before in pairs(seen) do
      live = live or before[digest]
    end
    if not live then
      dead[#dead + 1] = digest
    end
  end
  for first = 1, #dead, SLICE do
    redis.call('HDEL', CHUNKS, unpack(dead, first, math.min(first + SLICE - 1, #dead)))
  end

  local gone = {}
  for _, run in ipairs(redis.call('SMEMBERS', RUNS)) do
    if not live_runs[run] then
      redis.call('SREM', RUNS, run)
      gone[#gone + 1] = run
    end
  end
  return gone
end
