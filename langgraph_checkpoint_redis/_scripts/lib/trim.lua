-- Keeping a thread short while it grows.

-- Removing must not make a put slow: it takes at most this many checkpoints of a namespace, the newest first, so
-- that those that are left can be rebuilt. It frees chunks only in threads that are looked through quickly.
local MOST, QUICK = 10, 20000

-- Namespaces of calls that a put looks at. Where there are more, each put looks at others.
local LOOKED = 100

local function length_of(ns)
  return redis.call('ZLEXCOUNT', TIMELINE, '[' .. ns .. '\0', '(' .. ns .. '\1')
end

-- Stops before anything is changed if trimming is due, and something that it reads cannot be read.
local function check_before_trim(ns, count)
  steps = QUICK
  if length_of(ns) >= count then
    check_formats()
  end
end

-- include trimmed

-- Returns the names of those that are trimmed. `own_row` stays, wherever it sorts: the clock that its id comes
-- from may be behind.
local function trim_namespace(ns, count, oldest_root, own_row)
  local kept = rows_to_keep(ns, count, oldest_root)
  if own_row then
    keep(ns, own_row, kept)
  end
  local looked_at = MOST
  for _ in pairs(kept) do
    looked_at = looked_at + 1
  end
  local trimmed, left = '', MOST
  for _, row in ipairs(newest_rows(ns, looked_at)) do
    if not kept[row] and left > 0 then
      left = left - 1
      remove_checkpoint(row)
      trimmed = trimmed .. trimmed_name(place_of(row))
    end
  end
  return trimmed
end

-- Calls visit(ns, first_row) for namespaces, `LOOKED` of them at most, from one on that `id` decides.
local function each_of_some_namespaces(id, visit)
  local rows = redis.call('ZCARD', TIMELINE)
  local first = rows > LOOKED and tonumber(string.sub(redis.sha1hex(id), 1, 8), 16) % rows or 0
  local start = place_of(redis.call('ZRANGE', TIMELINE, first, first)[1])
  local looked, from, has_turned = 0, '[' .. start .. '\0', false
  while looked < LOOKED do
    local row = redis.call('ZRANGEBYLEX', TIMELINE, from, '+', 'LIMIT', 0, 1)[1]
    local ns = row and place_of(row)
    if row and not (has_turned and not is_before(ns, start)) then
      visit(ns, row)
      looked, from = looked + 1, '[' .. ns .. '\1'
    elseif has_turned then
      return
    else
      has_turned, from = true, '-'
    end
  end
end

-- Keeps the newest `count` checkpoints of a namespace, and the one just stored; with those of the root go
-- the namespaces of the calls that they made. Returns the ids of the runs that have no checkpoint left in
-- the thread.
local function trim(ns, id, count)
  local oldest_root, trimmed = oldest_root_of(count), ''
  note_removal(function()
    if length_of(ns) > count then
      trimmed = trim_namespace(ns, count, oldest_root, row_at(ns, id))
    end
    if ns == '' then
      each_of_some_namespaces(id, function(other, first_row)
        if is_of_past_call(other, first_row, oldest_root) then
          trimmed = trim_namespace(other, count, oldest_root) .. trimmed
        end
      end)
    end
  end)
  if trimmed == '' then
    return {}
  end
  note_trimmed(trimmed)
  local size = redis.call('ZCARD', TIMELINE) + redis.call('ZCARD', WRITES) + redis.call('HLEN', CHUNKS)
  return size <= QUICK and sweep('', 'timeline')[3] or {}
end
