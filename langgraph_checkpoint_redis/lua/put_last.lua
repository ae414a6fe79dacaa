-- Stores a checkpoint, complete or not at all, and keeps only the newest ones of its namespace.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- ARGV[1]  namespace
-- ARGV[2]  checkpoint id
-- ARGV[3]  head: msgpack {format, parent, run, root, delta, {channel, version, entry, ...}}; the
--          entry of a channel that did not change is 0 (its value, if any, is the parent's) or
--          1 (the same, and it certainly has a value)
-- ARGV[4]  tail
-- ARGV[5]  how many checkpoints of the namespace to keep
-- ARGV[6]  the token of the caller's lease, or empty
-- ARGV[7]  milliseconds that the thread lives on, 0 if the caller does not say
-- ARGV[8]  the same for this thread from now on, whatever savers say; or empty
-- ARGV[9]  1 to refuse a checkpoint whose namespace has moved on past its parent, or 0
-- ARGV[10] a new entry of the run in the index of runs, as its token and its score; or empty
-- ARGV[11] digests of chunks, in one string, that must be there and do not come along
-- ARGV[12...] digest and content of each chunk
-- Returns  {stored, unused, runs, lifetime, gone}: stored is 0, and nothing was written, when something
--          that the checkpoint refers to is not in the thread; it is 2, and nothing was written, when the
--          run has no checkpoint here and needs a new entry, for so many milliseconds (runs then has
--          the server's time); unused is that entry, if the thread has no need of it; runs are those
--          whose entries have to be renewed, and for how many milliseconds; gone are the runs
--          that have none left, with the tokens of their entries

-- include rows
-- include runs
-- include care
-- include slices
-- include closure
-- include live
-- include chunks
-- include walk
-- include sweep
-- include retain
-- include namespaces
-- include trim
-- include store

local count = tonumber(ARGV[5])
check_before_trim(ns, count)
local stored, unused, runs, lifetime = store_checkpoint()
local gone = stored == 1 and trim(ns, count) or {}
if old_row then -- perhaps this was done already, and the reply was lost
  gone = runs_gone()
end
return {stored, unused, runs, lifetime, gone}
