-- Stores a checkpoint, complete or not at all.
--
-- KEYS     timeline, writes, chunks, runs, live of the thread
-- ARGV[1]  namespace
-- ARGV[2]  checkpoint id
-- ARGV[3]  head: msgpack {format, parent, run, root, delta, {channel, version, entry, ...}}; the
--          entry of a channel that did not change is 0 (its value, if any, is the parent's) or
--          1 (the same, and it certainly has a value)
-- ARGV[4]  tail
-- ARGV[5]  0
-- ARGV[6]  how many of the chunks are nodes
-- ARGV[7...] digest and content of each chunk
-- Returns  {stored, run_is_new, gone}: stored is 0, and nothing was written, when something that the
--          checkpoint refers to is not in the thread; run_is_new is 1 when the run had no checkpoint
--          in this thread before; gone is empty

-- include rows
-- include slices
-- include closure
-- include live
-- include runs
-- include chunks
-- include store

local stored, run_is_new = store_checkpoint()
return {stored, run_is_new, {}}
