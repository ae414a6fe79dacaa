-- Checkpoints that were put while a removal of several calls is under way, and that are rebuilt from ancestors:
-- the field `arrived` of CHUNKS, a msgpack array of their places. The calls of the removal that follow leave those
-- ancestors, or refuse. The newest checkpoint of a branch stands for the others, as it needs what they need.
--
-- Needs: keys, rows
-- Gives: arrived, begin_removals_again, forget_arrival, note_arrival

local BRANCHES = 64 -- with more of them, all removals begin again with the newest row

local function arrived()
  local places = redis.call('HGET', CHUNKS, 'arrived')
  return places and cmsgpack.unpack(places) or {}
end

local function begin_removals_again()
  redis.call('HDEL', CHUNKS, 'removals', 'arrived')
end

-- Whether all ancestors that one checkpoint needs are needed by its child as well.
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
  local ns, id = place_of(row)
  for _, place in ipairs(arrived()) do
    if place == prefix(ns, id) then
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
  local places = {}
  for _, place in ipairs(arrived()) do
    if place ~= own and place ~= parent then
      places[#places + 1] = place
    end
  end
  if #places >= BRANCHES then
    begin_removals_again()
    return
  end
  places[#places + 1] = own
  redis.call('HSET', CHUNKS, 'arrived', cmsgpack.pack(places))
end
