-- Reads checkpoints by id, or the latest of a namespace.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- ARGV[1]  the levels of ropes whose chunks the caller knows
-- ARGV[2...] namespace and checkpoint id of each; an empty id is the latest
-- Returns  {done, rows, digests, groups}: done is how many were looked for before the reply was
--          large enough; a row is {row, has_parent, {writes, ...}}, and what is not there has none;
--          groups are all chunks that the rows are made of, digests a string for each

-- include rows
-- include slices
-- include closure
-- include reply
-- include find

leave_out(ARGV[1])
local done, rows = find(2)
return {done, rows, fetched()}
