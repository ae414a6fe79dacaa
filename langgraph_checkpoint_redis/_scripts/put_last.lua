-- Stores a checkpoint, complete or not at all, and keeps only the newest ones of its namespace.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread; none or, if chunks came ahead, chunks again
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
-- Returns  {1, unused, runs, lifetime, gone}: unused is that entry, if the thread has no need of it; runs are
--          those whose entries have to be renewed, and for how many milliseconds; gone are the runs that
--          have none left, with the tokens of their entries.
--          Nothing was written with {0, digests, channels}: the digests, in one string, of chunks that are
--          missing, and the unchanged channels whose value is; nor with {2, {}, time, lifetime}: the run has
--          no checkpoint here and needs a new entry, for so many milliseconds from the server's time

-- Needs: runs, store, trim

local plan
local reply = store_checkpoint(function()
  plan = plan_trim(ns, id, head, tonumber(ARGV[5]), old_row)
end)
if reply[1] == 1 then
  local gone = trim(plan)
  -- Where the row was there, perhaps this was done already, and the reply was lost.
  reply[5] = old_row and runs_gone() or gone
end
return reply
