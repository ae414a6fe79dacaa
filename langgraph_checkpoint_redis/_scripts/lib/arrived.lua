-- Checkpoints that were put while a removal of several calls is under way, and that are rebuilt from ancestors:
-- the field `arrived` of CHUNKS, a msgpack array of their prefixes (see rows.lua). The calls of the removal that
-- follow leave those ancestors, or refuse. The newest checkpoint of a branch stands for the others, as it needs what
-- they need.
--
-- Needs: rows, keys
-- Gives: read_arrivals, begin_removals_again, forget_arrival, note_arrival

local BRANCHES = 64 -- with more of them, all removals begin again with the newest row

local function read_arrivals()
  local packed = redis.call('HGET', CHUNKS, 'arrived')
  return packed and cmsgpack.unpack(packed) or {}
end

local function begin_removals_again()
  redis.call('HDEL', CHUNKS, 'removals', 'arrived')
end

-- Returns whether a checkpoint needs all ancestors that its parent needs.
local function stands_for(rebuilt, parent_row)
  for channel in pairs(rebuilt_channels(head_of(parent_row)) or {}) do
    if not rebuilt[channel] then
      return false
    end
  end
  return true
end

-- Where a checkpoint that arrived is removed, those that it stood for are to be found by their rows.
local function forget_arrival(row)
  local ns, id = split_row(row)
  for _, arrival in ipairs(read_arrivals()) do
    if arrival == prefix(ns, id) then
      begin_removals_again()
    end
  end
end

local function note_arrival(ns, id, head, parent_row)
  local rebuilt = parent_row and rebuilt_channels(head)
  if not rebuilt then
    return
  end
  local own, parent = prefix(ns, id), stands_for(rebuilt, parent_row) and prefix(ns, head[PARENT])
  local arrivals = {}
  for _, arrival in ipairs(read_arrivals()) do
    if arrival ~= own and arrival ~= parent then
      arrivals[#arrivals + 1] = arrival
    end
  end
  if #arrivals >= BRANCHES then
    begin_removals_again()
    return
  end
  arrivals[#arrivals + 1] = own
  redis.call('HSET', CHUNKS, 'arrived', cmsgpack.pack(arrivals))
end
