-- Reads checkpoints by id, or the latest of a namespace.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- ARGV[1]  the levels of trees whose chunks the caller knows
-- ARGV[2]  1 if chunks may be left to the caller, 0 if not
-- ARGV[3...] namespace and checkpoint id of each; an empty id is the latest
-- Returns  {done, rows, truncated, digests, groups}: done is how many were looked for before the reply was
--          large enough; a row is {row, has_parent, {writes, ...}}, and what is not there has none; truncated
--          is 1 if chunks are left out that the caller may not know; groups are all other chunks that the
--          rows are made of, digests a string for each

-- Needs: reply, find, closure
-- Sets: allow_truncation

leave_out(ARGV[1])
allow_truncation = ARGV[2] == '1'
local done, rows = find(ARGV, 3)
return {done, rows, truncated, get_fetched()}
