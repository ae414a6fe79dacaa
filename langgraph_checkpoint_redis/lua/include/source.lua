-- The source of a copy. `whole.lua` comes before.

-- Return the key that a thread has lost, or nil: a copy would have less than there was. A thread with rows has
-- chunks, too, if only for the marks.
local function lost_of_source(timeline, writes, chunks)
  local has_rows = redis.call('EXISTS', timeline, writes) > 0
  return lost_key(timeline, writes, chunks) or is_lost(has_rows, chunks) and chunks or nil
end
