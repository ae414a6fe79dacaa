-- Reads as get.lua does, and makes the thread live on.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- ARGV[1]  the levels of trees whose chunks the caller knows
-- ARGV[2]  1 if pieces may be left to the caller, 0 if not
-- ARGV[3]  milliseconds that the thread lives on
-- ARGV[4...] namespace and checkpoint id of each; an empty id is the latest
-- Returns  {done, rows, truncated, digests, groups, runs, lifetime}: as get.lua; then the runs whose index has
--          to be renewed, and for how many milliseconds

-- Needs: control, life, find, reply, closure
-- Sets: allow_truncation

read_control()
leave_out(ARGV[1])
allow_truncation = ARGV[2] == '1'
local done, rows = find(ARGV, 4)
local runs, lifetime = extend_expiry(ARGV[3])
return {done, rows, truncated, digests, groups, runs, lifetime}
