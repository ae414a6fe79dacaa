-- Which checkpoints of a namespace to keep: the newest ones, and what reading them needs.

-- The newest `count` rows of a namespace; with `top`, of those up to this id.
local function newest_rows(ns, count, top)
  local bound = top and prefix(ns, top) or ns
  return redis.call('ZREVRANGEBYLEX', TIMELINE, '(' .. bound .. '\1', '[' .. ns .. '\0', 'LIMIT', 0, count)
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

-- Adds a row and what it is rebuilt from.
local function keep(ns, row, kept)
  kept[row] = true
  needed_ancestors(ns, head_of(row), function(ancestor)
    kept[ancestor] = true
  end)
end

-- The set of rows of a namespace to keep; with `top`, without those that are newer.
local function rows_to_keep(ns, count, oldest_root, top)
  local kept = {}
  local rows = newest_rows(ns, count, top)
  if rows[1] and is_of_past_call(ns, rows[1], oldest_root) then
    return kept
  end
  for _, row in ipairs(rows) do
    keep(ns, row, kept)
  end
  return kept
end
