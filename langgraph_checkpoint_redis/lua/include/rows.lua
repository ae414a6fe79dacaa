-- Rows: finding them in a thread's two sorted sets, and reading their heads.
--
-- A row of the timeline is  ns NUL checkpoint_id NUL head tail  and a row of the writes is
-- ns NUL checkpoint_id NUL task_id NUL groups, all with score 0, so that they are ordered by
-- their bytes. `head` and `groups` are msgpack; the tail is opaque here.

local TIMELINE, WRITES, CHUNKS, RUNS = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local FORMAT = 1

-- Head fields.
local PARENT, RUN, ROOT, DELTA, CHANNELS = 2, 3, 4, 5, 6

-- Whether one id or namespace sorts before another, by their bytes as in the sorted sets. Lua's own <
-- goes by the language that the server was started with.
local function is_before(one, other)
  for i = 1, math.min(#one, #other) do
    local a, b = string.byte(one, i), string.byte(other, i)
    if a ~= b then
      return a < b
    end
  end
  return #one < #other
end

local function prefix(ns, id)
  return ns .. '\0' .. id
end

local function row_at(ns, id)
  local key = prefix(ns, id)
  return redis.call('ZRANGEBYLEX', TIMELINE, '[' .. key .. '\0', '(' .. key .. '\1', 'LIMIT', 0, 1)[1]
end

local function row_exists(ns, id)
  local key = prefix(ns, id)
  return redis.call('ZLEXCOUNT', TIMELINE, '[' .. key .. '\0', '(' .. key .. '\1')
end

local function latest_row(ns)
  return redis.call('ZREVRANGEBYLEX', TIMELINE, '(' .. ns .. '\1', '[' .. ns .. '\0', 'LIMIT', 0, 1)[1]
end

local function writes_at(ns, id)
  local key = prefix(ns, id)
  return redis.call('ZRANGEBYLEX', WRITES, '[' .. key .. '\0', '(' .. key .. '\1')
end

-- Calls visit(ns, first_row) for every namespace, in order.
local function each_namespace(visit)
  local row = redis.call('ZRANGEBYLEX', TIMELINE, '-', '+', 'LIMIT', 0, 1)[1]
  while row do
    local ns = string.sub(row, 1, string.find(row, '\0', 1, true) - 1)
    visit(ns, row)
    row = redis.call('ZRANGEBYLEX', TIMELINE, '[' .. ns .. '\1', '+', 'LIMIT', 0, 1)[1]
  end
end

local unpacked = {} -- by row, as scripts that check all rows before they write read them again

local function unpack_known(row, offset)
  if not unpacked[row] then
    local _, value = cmsgpack.unpack_one(row, offset)
    if value[1] ~= FORMAT then
      error('UNKNOWNFORMAT ' .. tostring(value[1]))
    end
    unpacked[row] = value
  end
  return unpacked[row]
end

-- The namespace and checkpoint id that a row of either set starts with, and the offset behind them.
local function place_of(row)
  local first = string.find(row, '\0', 1, true)
  local second = string.find(row, '\0', first + 1, true)
  return string.sub(row, 1, first - 1), string.sub(row, first + 1, second - 1), second
end

local function id_of(row)
  local _, id = place_of(row)
  return id
end

local function head_of(row)
  local _, _, offset = place_of(row)
  return unpack_known(row, offset)
end

local function groups_of(row)
  local _, _, offset = place_of(row)
  return unpack_known(row, string.find(row, '\0', offset + 1, true))
end

-- Calls visit(entry, channel) for every value of a checkpoint's head.
local function each_value(head, visit)
  local channels = head[CHANNELS]
  for i = 1, #channels, 3 do
    if channels[i + 2] then
      visit(channels[i + 2], channels[i])
    end
  end
end

-- Calls visit(entry, channel) for every write in a task's groups.
local function each_write(groups, visit)
  for g = 2, #groups do
    local group = groups[g]
    for i = 2, #group, 3 do
      visit(group[i + 2], group[i + 1])
    end
  end
end
