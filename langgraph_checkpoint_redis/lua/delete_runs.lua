-- Deletes a thread's checkpoints of some runs, with their writes, and frees what only they used.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- ARGV[1]  a random token of this removal
-- ARGV[2], ARGV[3]  stage and position: 'rows' and empty at first, then as returned
-- ARGV[4]  the token of the caller's lease, or empty
-- ARGV[5...] run ids
-- Returns  {stage, position, gone}: an empty stage at the end; gone are the runs that have no
--          checkpoint left in the thread, with the tokens of their entries

-- include rows
-- include whole
-- include control
-- include lease
-- include slices
-- include closure
-- include live
-- include runs
-- include walk
-- include sweep

write_even_if_full()
write_for_wait()
check_lease(ARGV[4])
local runs = {}
for i = 5, #ARGV do
  runs[ARGV[i]] = true
end

local function is_victim(row)
  return runs[head_of(row)[RUN] or '']
end

-- Refuses where a checkpoint that stays is rebuilt from one that would go.
local function check(row)
  local head = head_of(row)
  if is_victim(row) or not head[DELTA] then
    return
  end
  local stored, is_rebuilt = {}, false
  each_value(head, function(_, channel)
    stored[channel] = true
  end)
  for _, channel in ipairs(head[DELTA]) do
    is_rebuilt = is_rebuilt or not stored[channel]
  end
  local ns, id = place_of(row)
  local parent_row = is_rebuilt and row_at(ns, head[PARENT])
  if parent_row and is_victim(parent_row) then
    refuse('NEEDED', TIMELINE, head_of(parent_row)[RUN], id)
  end
end

return remove(ARGV[1], ARGV[2], ARGV[3], is_victim, check)
