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

local function trim_namespace(ns, count, oldest_root)
  local kept = rows_to_keep(ns, count, oldest_root)
  local oldest = redis.call(
    'ZRANGEBYLEX', TIMELINE, '[' .. ns .. '\0', '(' .. ns .. '\1', 'LIMIT', 0, OLDEST
  )
  local trimmed = false
  for _, row in ipairs(oldest) do
    if not kept[row] then
      remove_checkpoint(row)
      trimmed = true
    end
  end
  return trimmed
end

-- Keeps the newest `count` checkpoints of a namespace; with those of the root go the namespaces of
-- the calls that they made. Returns the ids of the runs that have no checkpoint left in the thread.
local function trim(ns, count)
  local oldest_root = oldest_root_of(count)
  local trimmed = trim_namespace(ns, count, oldest_root)
  if ns == '' then
    each_namespace(function(other, first_row)
      if is_of_past_call(other, first_row, oldest_root) then
        trimmed = trim_namespace(other, count, oldest_root) or trimmed
      end
    end)
  end
  if not trimmed then
    return {}
  end
  local size = redis.call('ZCARD', TIMELINE) + redis.call('ZCARD', WRITES) + redis.call('HLEN', CHUNKS)
  return size <= QUICK and sweep('', 'timeline', false)[3] or {}
end
