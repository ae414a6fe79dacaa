-- Looking at the rows of a thread, a bounded number and a bounded size in a call.
--
-- Gives: BYTES, steps, position, bytes, walk

-- A call ends with the row that brings it to this many bytes.
local BYTES = 1024 * 1024

local steps, position, bytes = 0, '', 0

-- Calls visit(row) for the rows of a sorted set behind `position`, `steps` of them at most. Returns whether
-- all were visited. Rows are fetched a few at a time, more of them as long as they are small.
local function walk(key, visit)
  local some = 16
  while steps > 0 and bytes < BYTES do
    local from = position == '' and '-' or '(' .. position
    local limit, before = math.min(steps, some), bytes
    local rows = redis.call('ZRANGEBYLEX', key, from, '+', 'LIMIT', 0, limit)
    for _, row in ipairs(rows) do
      visit(row)
      position, bytes = row, bytes + #row
    end
    steps = steps - #rows
    if #rows < limit then
      return true
    end
    some = bytes - before < 32768 and some * 2 or math.max(1, math.floor(some / 4))
  end
  return false
end
