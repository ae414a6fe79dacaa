-- Deletes a thread's checkpoints of some runs, with their writes, and frees what only they used.
--
-- KEYS     timeline, writes, chunks, runs, live of the thread
-- ARGV[1]  a random token of this removal
-- ARGV[2], ARGV[3]  stage and position: 'rows' and empty at first, then as returned
-- ARGV[4...] run ids
-- Returns  {stage, position, gone}: an empty stage at the end; gone are the ids of the runs that have
--          no checkpoint left in the thread

-- include rows
-- include slices
-- include closure
-- include live
-- include runs
-- include walk
-- include sweep

local runs = {}
for i = 4, #ARGV do
  runs[ARGV[i]] = true
end

return remove(ARGV[1], ARGV[2], ARGV[3], function(row)
  return runs[head_of(row)[RUN] or '']
end)
