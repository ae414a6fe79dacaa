-- Cutting off the checkpoints of a namespace that are kept only because newer ones are rebuilt from them.
--
-- A delta channel of such a checkpoint may lack ancestors of its own. So its row gets the field ENDS, and listings of
-- the namespace end before it: see list.lua. ENDS is a flat list of delta channels that the checkpoint is rebuilt from,
-- each followed by the least id of the ancestors that the channel needs. So no later put walks through these. A channel
-- that is not in the list is walked for.
--
-- Needs: rows, keys
-- Gives: ends_of, row_with_ends, replace_row, cut_off

local function ends_in(head)
  local ends, list = {}, head[ENDS] or {}
  for i = 1, #list, 2 do
    ends[list[i]] = list[i + 1]
  end
  return ends
end

-- Returns, by channel, the least id of the ancestors that delta channels of a checkpoint are rebuilt from. The second
-- result has the same for the channels whose ancestors do not change any more: all of these are there. `known` has the
-- second results for other checkpoints of the namespace, by their ids.
local function ends_of(ns, head, known)
  local ends, sure, searched = {}, {}, rebuilt_channels(head) or {}
  local least, visited, parent = nil, {}, head[PARENT]
  while next(searched) and parent ~= '' and not visited[parent] do
    local row = row_at(ns, parent)
    if not row then
      break
    end
    visited[parent] = true
    if not least or is_before(parent, least) then
      least = parent
    end
    local parent_head = head_of(row)
    local is_stored, further = stored_channels(parent_head), known[parent] or ends_in(parent_head)
    for channel in pairs(searched) do
      local is_end = is_stored[channel] ~= false
      if is_end or further[channel] then
        local last = not is_end and further[channel] or least
        ends[channel] = is_before(last, least) and last or least
        sure[channel], searched[channel] = ends[channel], nil
      end
    end
    parent = parent_head[PARENT]
  end
  for channel in pairs(searched) do
    ends[channel] = least
    sure[channel] = parent == '' and least or nil
  end
  return ends, sure
end

-- Returns a row with other ENDS.
local function row_with_ends(row, ends)
  local ns, id, offset = split_row(row)
  local last, head = cmsgpack.unpack_one(row, offset)
  local list = {}
  for _, channel in ipairs(head[DELTA] or {}) do
    if ends[channel] then
      list[#list + 1] = channel
      list[#list + 1] = ends[channel]
    end
  end
  head[ENDS] = list
  local tail = string.sub(row, last + 1, #row - CHECKSUM)
  return with_checksum(prefix(ns, id) .. '\0' .. cmsgpack.pack(head) .. tail)
end

local function replace_row(row, new_row)
  redis.call('ZADD', TIMELINE, 0, new_row) -- first, so that the key is never empty and stays with its expiry
  if new_row ~= row then
    redis.call('ZREM', TIMELINE, row)
  end
end

-- Cuts off a row, and notes its ends if there is a table `known`. That takes a walk, so it is for the newest row that
-- is cut off, which newer ones go on from.
local function cut_off(row, known)
  local ns = split_row(row)
  local ends = {}
  if known then
    local _, sure = ends_of(ns, head_of(row), known)
    ends = sure
  end
  replace_row(row, row_with_ends(row, ends))
end
