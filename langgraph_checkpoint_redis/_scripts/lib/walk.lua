-- Looking at the rows of a thread, a bounded number in a call.
--
-- Gives: STEPS, steps, position, walk, walk_back

local STEPS = 1000

local steps, position = STEPS, ''

local function walk_by(visit, rows_behind)
  while steps > 0 do
    local rows = rows_behind(position == '' and '' or '(' .. position, math.min(steps, 500))
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

-- Calls visit(row) for the rows of a sorted set behind `position`. Returns whether all were visited.
local function walk(key, visit)
  return walk_by(visit, function(from, count)
    return redis.call('ZRANGEBYLEX', key, from == '' and '-' or from, '+', 'LIMIT', 0, count)
  end)
end

-- The same from the end.
local function walk_back(key, visit)
  return walk_by(visit, function(from, count)
    return redis.call('ZREVRANGEBYLEX', key, from == '' and '+' or from, '-', 'LIMIT', 0, count)
  end)
end
