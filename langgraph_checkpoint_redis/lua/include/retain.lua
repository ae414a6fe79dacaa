-- Which checkpoints of a namespace to keep: the newest ones, and what reading them needs.

-- A delta channel without a stored value is rebuilt from its ancestors, back to one that has it.
local function keep_ancestors(ns, head, kept)
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
  local visited = {}
  local row = left > 0 and row_at(ns, head[PARENT])
  while row and left > 0 and not visited[row] do
    visited[row] = true
    kept[row] = true
    head = head_of(row)
    each_value(head, found)
    row = row_at(ns, head[PARENT])
  end
end

-- The newest `count` rows of a namespace.
local function newest_rows(ns, count)
  return redis.call('ZREVRANGEBYLEX', TIMELINE, '(' .. ns .. '\1', '[' .. ns .. '\0', 'LIMIT', 0, count)
end

-- A namespace with a task id in it belongs to one call of a subgraph, and goes with the root
-- checkpoint that made the call. One that names no root checkpoint, or a newer one, stays.
local function is_of_past_call(ns, newest_row, oldest_root)
  local root = oldest_root and string.find(ns, ':', 1, true) and head_of(newest_row)[ROOT]
  return root and is_before(root, oldest_root)
end

-- The oldest root checkpoint among the newest `count`, or nil.
local function oldest_root_of(count)
  local rows = newest_rows('', count)
  return rows[1] and id_of(rows[#rows])
end

-- The set of rows of a namespace to keep.
local function rows_to_keep(ns, count, oldest_root)
  local kept = {}
  local rows = newest_rows(ns, count)
  if rows[1] and is_of_past_call(ns, rows[1], oldest_root) then
    return kept
  end
  for _, row in ipairs(rows) do
    kept[row] = true
    keep_ancestors(ns, head_of(row), kept)
  end
  return kept
end
