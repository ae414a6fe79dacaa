-- The source of a copy. `whole.lua` comes before.
--
-- Needs: whole, rows
-- Gives: find_lost_key

-- Return the key that a thread has lost, or nil: a copy would have less than there was. A thread with rows has
-- chunks, too, if only for the fields.
local function find_lost_key(timeline, writes, chunks)
  local keys = {timeline = timeline, writes = writes, chunks = chunks}
  local name = lost_keys(fields_of(chunks), keys)[1]
  local has_marked = has_marked_rows(timeline, head_of) or has_marked_rows(writes, groups_of)
  return name and keys[name] or has_marked and not exists(chunks) and chunks or nil
end
