-- Stores a checkpoint, complete or not at all.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- ARGV[1]  namespace
-- ARGV[2]  checkpoint id
-- ARGV[3]  head: msgpack {format, parent, run, root, delta, {channel, version, entry, ...}}; the
--          entry of a channel that did not change is 0 (its value, if any, is the parent's) or
--          1 (the same, and it certainly has a value)
-- ARGV[4]  tail
-- ARGV[5]  0
-- ARGV[6]  the token of the caller's lease, or empty
-- ARGV[7]  milliseconds that the thread lives on, 0 if the caller does not say
-- ARGV[8]  the same for this thread from now on, whatever savers say; or empty
-- ARGV[9]  1 to refuse a checkpoint whose namespace has moved on past its parent, or 0
-- ARGV[10] digests of chunks, in one string, that must be there and do not come along
-- ARGV[11...] digest and content of each chunk
-- Returns  {1, run_is_new, runs, lifetime, gone}: run_is_new is 1 when the run has no other checkpoint in this
--          thread; runs are those whose index has to be renewed, and for how many milliseconds; gone is empty. Or
--          {0, digests, channels} when nothing was written: the digests, in one string, of chunks that are
--          missing, and the unchanged channels whose value is

-- include rows
-- include whole
-- include care
-- include runs
-- include chunks
-- include store

local reply = store_checkpoint()
reply[5] = reply[1] == 1 and {} or nil
return reply
