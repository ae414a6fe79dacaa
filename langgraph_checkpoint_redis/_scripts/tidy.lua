-- Removes the expired entries from the index of a run, and lets the key expire with the last one.
--
-- KEYS     index of the run
-- ARGV     none
-- Returns  1

-- Needs: entries, clock

local INDEX = KEYS[1]
purge_entries(INDEX, now())
expire_with_entries(INDEX)
return 1
