-- Reads as get.lua does, and makes the thread live on.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- ARGV[1]  the levels of ropes whose chunks the caller knows
-- ARGV[2]  milliseconds that the thread lives on
-- ARGV[3...] namespace and checkpoint id of each; an empty id is the latest
-- Returns  {done, rows, digests, groups, runs, lifetime}: as get.lua; then the runs whose index has to be
--          renewed, and for how many milliseconds

-- include rows
-- include slices
-- include closure
-- include reply
-- include find
-- include control
-- include life

leave_out(ARGV[1])
local done, rows = find(3)
local runs, lifetime = live_on(ARGV[2])
return {done, rows, digests, groups, runs, lifetime}
