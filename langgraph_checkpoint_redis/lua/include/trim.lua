-- Keeping a thread short while it grows.

-- Removing must not make a put slow: it looks at this many old checkpoints of a namespace, and frees
-- chunks only in threads that are looked through quickly.
local OLDEST, QUICK = 10, 20000

-- Stops before anything is changed if trimming is due, and something that it reads cannot be read.
local function check_before_trim(ns, count)
  steps = QUICK
  if redis.call('ZLEXCOUNT', TIMELINE, '[' .. ns .. '\0', '(' .. ns .. '\1') >= count then
    check_formats()
  end
end

-- include trimmed

-- Returns the names of those that are trimmed. `own_row` stays, wherever it sorts: the clock that its id comes from may be behind.
local function trim_namespace(ns, count, oldest_root, own_row)
  local kept = rows_to_keep(ns, count, oldest_root)
  if own_row then
    keep(ns, own_row, kept)
  end
  local oldest = redis.call(
    'ZRANGEBYLEX', TIMELINE, '[' .. ns .. '\0', '(' .. ns .. '\1', 'LIMIT', 0, OLDEST
  )
  local trimmed = ''
  for _, row in ipairs(oldest) do
    if not kept[row] then
      remove_checkpoint(row)
      trimmed = trimmed .. trimmed_name(place_of(row))
    end
  end
  return trimmed
end

-- Keeps the newest `count` checkpoints of a namespace, and the one just stored; with those of the root go
-- the namespaces of the calls that they made. Returns the ids of the runs that have no checkpoint left in
-- the thread.
local function trim(ns, id, count)
  local oldest_root, trimmed = oldest_root_of(count), ''
  note_removal(function()
    trimmed = trim_namespace(ns, count, oldest_root, row_at(ns, id))
    if ns == '' then
      each_namespace(function(other, first_row)
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
