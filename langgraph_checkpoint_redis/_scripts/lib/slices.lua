-- Long lists as arguments: Lua's stack holds about 8,000, so they go in slices.
--
-- Gives: SLICE, each_slice, call_with_all

local SLICE = 1000

-- Calls visit(first, last) for slices of a list of this length.
local function each_slice(length, visit)
  for first = 1, length, SLICE do
    visit(first, math.min(first + SLICE - 1, length))
  end
end

-- Calls a command on a key with all items, a slice at a time.
local function call_with_all(command, key, items)
  each_slice(#items, function(first, last)
    redis.call(command, key, unpack(items, first, last))
  end)
end
