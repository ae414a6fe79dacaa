-- Deletes a thread as delete.lua does, unless it was used meanwhile, is pinned or has a lease.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- ARGV[1]  the token by which the thread is watched, as namespaces.lua returned it
-- Returns  {deleted, runs}: deleted is 1 also when there was no thread any more; runs are those
--          that the thread had checkpoints of, with the tokens of their entries

-- Needs: delete_all, control, keys, first_write, watch, lease

read_control()
write_even_if_full()
local is_pinned = control.ttl == '0'
local is_used = is_pinned or has_lease() or not is_watched_by(ARGV[1])
if is_used and redis.call('EXISTS', TIMELINE, WRITES) > 0 then
  return {0, {}}
end
return {1, delete_all()}
