-- Forgets runs that had no checkpoint left in a thread, unless they have one again.
--
-- KEYS     timeline, writes, chunks, runs, live of the thread
-- ARGV[1...] run ids
-- Returns  the ids of those that have a checkpoint again

-- include rows
-- include slices
-- include walk

local present, back, gone = {}, {}, {}
local complete = walk(TIMELINE, function(row)
  present[head_of(row)[RUN] or ''] = true
end)
if not complete then -- too many to look at them all: a later removal tries again
  return {}
end
for _, run in ipairs(ARGV) do
  local list = present[run] and back or gone
  list[#list + 1] = run
end
call_with_all('SREM', RUNS, gone)
return back
