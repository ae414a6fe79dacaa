-- Rows: finding them in a thread's two sorted sets, and reading their heads.
--
-- A row of the timeline is  ns NUL checkpoint_id NUL head tail checksum  and a row of the writes is
-- ns NUL checkpoint_id NUL task_id NUL groups checksum, all with score 0, so that they are ordered by
-- their bytes. `head` and `groups` are msgpack; the tail is opaque here. The checksum is that of all
-- bytes before it, so that a damaged row is neither used nor passed on.
--
-- Needs: refuse, keys
-- Gives: FORMAT, UNMARKED, PARENT, RUN, ROOT, DELTA, CHANNELS, ENDS, CHECKSUM, with_checksum, refuse_row, is_before,
--   prefix, row_at, row_exists, latest_row, split_row, id_of, check_format, unpack_row, head_of, is_cut_off,
--   groups_of, each_value, stored_channels, rebuilt_channels, each_write

-- The format of new rows, and the one before it: its rows may be in a thread without the fields that whole.lua
-- tells of.
local FORMAT, UNMARKED = 2, 1

-- Head fields. Only rows that were cut off have the last one, see cut_off.lua.
local PARENT, RUN, ROOT, DELTA, CHANNELS, ENDS = 2, 3, 4, 5, 6, 7

local CHECKSUM = 4

local function checksum(bytes)
  return tonumber(string.sub(redis.sha1hex(bytes), 1, 2 * CHECKSUM), 16)
end

local function with_checksum(bytes)
  return bytes .. struct.pack('>I4', checksum(bytes))
end

local function is_intact(row)
  local size = #row - CHECKSUM
  return size >= 0 and struct.unpack('>I4', row, size + 1) == checksum(string.sub(row, 1, size))
end

-- Raises an error for a row that cannot be read, with enough of the row to tell where it is.
local function refuse_row(key, row)
  refuse('CORRUPT', key, string.sub(row, 1, 1000))
end

-- Returns whether one id or namespace sorts before another, by their bytes as in the sorted sets. Lua's own <
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

-- Returns the beginning of all rows of a checkpoint, which a NUL follows.
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

-- Returns the namespace and the checkpoint id that a row of either set starts with, and the offset behind them.
local function split_row(row)
  local first = string.find(row, '\0', 1, true)
  local second = first and string.find(row, '\0', first + 1, true)
  if not second then
    refuse_row(TIMELINE, row)
  end
  return string.sub(row, 1, first - 1), string.sub(row, first + 1, second - 1), second
end

local function id_of(row)
  local _, id = split_row(row)
  return id
end

local unpacked = {} -- by row, as scripts that check all rows before they write read them again

local function check_format(format)
  if format ~= FORMAT and format ~= UNMARKED then
    refuse('FORMAT', tostring(format))
  end
end

-- Returns the msgpack at an offset of a row. Raises an error if the row is not as it was stored.
local function unpack_row(key, row, offset)
  if unpacked[row] then
    return unpacked[row]
  end
  if not offset or not is_intact(row) then
    refuse_row(key, row)
  end
  local read, _, value = pcall(cmsgpack.unpack_one, row, offset)
  if not read or type(value) ~= 'table' then
    refuse_row(key, row)
  end
  check_format(value[1])
  unpacked[row] = value
  return value
end

local function head_of(row)
  local _, _, offset = split_row(row)
  return unpack_row(TIMELINE, row, offset)
end

-- The first byte of a head that has the field ENDS.
local SEVEN_FIELDS = 0x97

-- Returns whether a row was cut off: trimming keeps it only because newer checkpoints are rebuilt from it.
local function is_cut_off(row)
  local _, _, offset = split_row(row)
  return string.byte(row, offset + 1) == SEVEN_FIELDS and head_of(row)[ENDS] ~= nil
end

local function groups_of(row)
  local _, _, offset = split_row(row)
  return unpack_row(WRITES, row, string.find(row, '\0', offset + 1, true))
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

-- For each channel that was ever written, whether the checkpoint has a value of it.
local function stored_channels(head)
  local is_stored, channels = {}, head[CHANNELS]
  for i = 1, #channels, 3 do
    is_stored[channels[i]] = channels[i + 2] and true or false
  end
  return is_stored
end

-- Returns the channels of a checkpoint that are rebuilt from ancestors, as a set; or nil if there is none.
local function rebuilt_channels(head)
  local rebuilt = {}
  if head[DELTA] then
    local is_stored = stored_channels(head)
    for _, channel in ipairs(head[DELTA]) do
      rebuilt[channel] = is_stored[channel] == false or nil
    end
  end
  return next(rebuilt) and rebuilt
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
