-- Which checkpoints of a namespace to keep: the newest ones, and what reading them needs.
--
-- Needs: rows, keys
-- Gives: find_newest_rows, is_of_past_call, find_oldest_root, has_delta

-- Returns the newest `count` rows of a namespace; with `top`, of those up to this id.
local function find_newest_rows(ns, count, top)
  local bound = top and prefix(ns, top) or ns
  return redis.call('ZREVRANGEBYLEX', TIMELINE, '(' .. bound .. '\1', '[' .. ns .. '\0', 'LIMIT', 0, count)
end

-- A namespace with a task id in it belongs to one call of a subgraph, and goes with the root
-- checkpoint that made the call. One that names no root checkpoint, or a newer one, stays.
local function is_of_past_call(ns, newest_head, oldest_root)
  local root = oldest_root and string.find(ns, ':', 1, true) and newest_head[ROOT]
  return root and is_before(root, oldest_root)
end

-- Returns the oldest root checkpoint among the newest `count`, or nil.
local function find_oldest_root(count)
  local row = redis.call('ZREVRANGEBYLEX', TIMELINE, '(\1', '[\0', 'LIMIT', count - 1, 1)[1]
    or redis.call('ZRANGEBYLEX', TIMELINE, '[\0', '(\1', 'LIMIT', 0, 1)[1]
  return row and id_of(row)
end

-- Returns whether a row has delta channels, without reading the rest of it.
local function has_delta(row)
  local _, _, offset = split_row(row)
  local read, _, format, _, _, _, delta = pcall(cmsgpack.unpack_limit, row, DELTA, offset + 1)
  if not read then
    refuse_row(TIMELINE, row)
  end
  check_format(format)
  return delta
end

