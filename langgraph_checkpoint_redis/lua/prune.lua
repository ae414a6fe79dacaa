-- Keeps the newest checkpoints of each namespace, and what reading them needs.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- ARGV[1]  a random token of this removal
-- ARGV[2], ARGV[3]  stage and position: 'rows' and empty at first, then as returned
-- ARGV[4]  the token of the caller's lease, or empty
-- ARGV[5]  how many checkpoints to keep
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
-- include retain

write_even_if_full()
write_for_wait()
check_lease(ARGV[4])
local count = tonumber(ARGV[5])
local oldest_root = oldest_root_of(count)
local kept = {}

return remove(ARGV[1], ARGV[2], ARGV[3], function(row)
  local ns = place_of(row)
  kept[ns] = kept[ns] or rows_to_keep(ns, count, oldest_root)
  return not kept[ns][row]
end)
