-- Looking at the rows of a thread, a bounded number in a call.

local STEPS = 1000

local steps, position = STEPS, ''

-- Calls visit(row) for the rows of a sorted set behind `position`. Returns whether all were visited.
local function walk(key, visit)
  while steps > 0 do
    local from = position == '' and '-' or '(' .. position
    local rows = redis.call('ZRANGEBYLEX', key, from, '+', 'LIMIT', 0, math.min(steps, 500))
    for _, row in ipairs(rows) do
      visit(row)
      position = row
    end
    steps = steps - #rows
    if #rows == 0 then
      return true
    end
  end
  return false
end
