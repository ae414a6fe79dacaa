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

return remove(ARGV[1], ARGV[2], ARGV[3], function(row)
  return runs[head_of(row)[RUN] or '']
end)
