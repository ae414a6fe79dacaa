-- Keeps the latest checkpoint of each namespace, and what reading it needs.
--
-- KEYS     timeline, writes, chunks, runs of the thread
-- Returns  the ids of the runs that have no checkpoint left in the thread

-- include rows
-- include closure
-- include sweep

local kept = {}

-- A delta channel without a stored value is rebuilt from its ancestors, back to one that has it.
local function keep_ancestors(ns, head)
  local searched, left = {}, 0
  for _, channel in ipairs(head[DELTA] or {}) do
    searched[channel] = true
    left = left + 1
  end
  local function found(_, channel)
    if searched[channel] then
      searched[channel] = nil
      left = left - 1
    end
  end
  each_value(head, found)
  local row = row_at(ns, head[PARENT])
  while row and left > 0 and not kept[row] do
    kept[row] = true
    head = head_of(row)
    each_value(head, found)
    row = row_at(ns, head[PARENT])
  end
end

-- A namespace with a task id in it belongs to one call of a subgraph, and goes with the root
-- checkpoint that made the call. One that names no root, or a newer one, stays.
local root_row = latest_row('')
local latest_root = root_row and id_of(root_row)

local function is_of_past_call(ns, head)
  return latest_root and head[ROOT] and string.find(ns, ':', 1, true) and head[ROOT] < latest_root
end

local row = redis.call('ZRANGEBYLEX', TIMELINE, '-', '+', 'LIMIT', 0, 1)[1]
while row do
  local ns = place_of(row)
  local newest = latest_row(ns)
  local head = head_of(newest)
  if not is_of_past_call(ns, head) then
    kept[newest] = true
    keep_ancestors(ns, head)
  end
  row = redis.call('ZRANGEBYLEX', TIMELINE, '[' .. ns .. '\1', '+', 'LIMIT', 0, 1)[1]
end

local victims = {}
each_row(TIMELINE, function(row)
  if not kept[row] then
    victims[#victims + 1] = row
  end
end)
for _, victim in ipairs(victims) do
  remove_checkpoint(victim)
end
return sweep()
