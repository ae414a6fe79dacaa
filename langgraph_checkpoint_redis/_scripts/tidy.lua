-- Removes the expired entries from the index of a run, and lets the key expire with the last one.
--
-- KEYS     index of the run
-- ARGV     none
-- Returns  1

-- Needs: entries

expire_with_entries()
return 1
