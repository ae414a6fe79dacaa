-- Removals of several calls: how far each has come, as the server knows it.
--
-- The field `removals` of CHUNKS has of each of them its token, the number of its calls that were done, and the
-- time of the last one. A call brings the number that the one before it was answered. If the server has another
-- one, it has lost calls: rows that they removed may be there again. Then the removal begins again with the
-- newest row. Each removal has a number of its own, so that two at a time do not disturb each other.
--
-- Needs: keys, ancestors, rows, arrived, whole
-- Gives: has_done, note_calls, each_arrived

local ABANDONED = 60 * 60 -- seconds after its last call when a removal is forgotten

-- Returns whether the server has done that many calls of a removal, or one more where this one is repeated.
local function has_done(token, calls)
  local noted = string.match(redis.call('HGET', CHUNKS, 'removals') or '', ' ' .. token .. ':(%d+):')
  return noted and (tonumber(noted) == calls or tonumber(noted) == calls + 1)
end

-- Notes that so many calls of a removal are done; nil at its end.
local function note_calls(token, calls)
  local time = tonumber(redis.call('TIME')[1])
  local removals = string.gsub(redis.call('HGET', CHUNKS, 'removals') or '', ' (%x+):%d+:(%d+)', function(other, at)
    return (other == token or math.abs(time - at) > ABANDONED) and '' or nil
  end)
  if calls then
    removals = string.format('%s %s:%d:%.0f', removals, token, calls, time)
  end
  if removals == '' then
    begin_removals_again() -- none is left
  elseif redis.call('EXISTS', TIMELINE, WRITES) > 0 then
    if redis.call('EXISTS', CHUNKS) == 0 then -- then this hash does not pass for the one that is lost
      note_rows(redis.call('EXISTS', TIMELINE) == 1 and 'timeline' or 'writes', fields_to_write_by())
    end
    redis.call('HSET', CHUNKS, 'removals', removals)
  end
end

-- Calls visit(row, ancestors) for each checkpoint that arrived: the ancestors are those that it is rebuilt from.
local function each_arrived(visit)
  for _, arrival in ipairs(read_arrivals()) do
    local ns, id = string.match(arrival, '^(%Z*)%z(%Z*)$')
    local row = row_at(ns, id)
    if row then
      local ancestors = {}
      needed_ancestors(ns, head_of(row), function(ancestor)
        ancestors[#ancestors + 1] = ancestor
      end)
      visit(row, ancestors)
    end
  end
end
