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
  local row = redis.call('ZREVRANGEBYLEX', TIMELINE, '(\1', '[\0', 'LIMIT', count - 1, 1)[1]
    or redis.call('ZRANGEBYLEX', TIMELINE, '[\0', '(\1', 'LIMIT', 0, 1)[1]
  return row and id_of(row)
end

-- Whether a row has delta channels, without reading the rest of it.
local function has_delta(row)
  local _, _, offset = place_of(row)
  local read, _, format, _, _, _, delta = pcall(cmsgpack.unpack_limit, row, DELTA, offset + 1)
  if not read then
    refuse_row(TIMELINE, row)
  end
  check_format(format)
  return delta
end

-- Adds a row and what it is rebuilt from.
local function keep(ns, row, kept, walked)
  kept[row] = true
  if has_delta(row) then
    needed_ancestors(ns, head_of(row), function(ancestor)
      kept[ancestor] = true
    end, walked)
  end
end

-- The set of rows of a namespace to keep; with `top`, without those that are newer.
local function rows_to_keep(ns, count, oldest_root, top)
  local kept = {}
  local rows = newest_rows(ns, count, top)
  if rows[1] and is_of_past_call(ns, rows[1], oldest_root) then
    return kept
  end
  local walked = {}
  for _, row in ipairs(rows) do
    keep(ns, row, kept, walked)
  end
  return kept
end
