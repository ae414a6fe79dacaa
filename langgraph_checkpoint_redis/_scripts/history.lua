-- Walks the ancestors of a checkpoint, collecting what channels wrote since their last stored value.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- ARGV[1]  namespace
-- ARGV[2]  checkpoint id; empty is the latest
-- ARGV[3]  1 to begin at the checkpoint's parent, 0 to begin at the checkpoint itself
-- ARGV[4]  how many ancestors to visit at most
-- ARGV[5]  the levels of trees whose chunks the caller knows
-- ARGV[6]  the caller knows most chunks of ancestors before this checkpoint id, and asks for the others itself;
--          empty if it knows none
-- ARGV[7...] channels
-- Returns  {ancestors, next_id, gone, delta, begun, digests, groups}: an ancestor is {writes, seeds}, with seeds a
--          flat list of channel and msgpack entry; next_id is where to go on, or empty at the end; gone is the
--          id of a checkpoint that was looked for and is not there, or empty; delta, where the walk begins at a
--          parent, are the delta channels that the checkpoint needs ancestors for; begun are the channels that
--          were written first by one of these ancestors

-- Needs: whole, reply, closure, rows

leave_out(ARGV[5])
local ns, id, known_before = ARGV[1], ARGV[2], ARGV[6]
local searched, left = {}, 0
for i = 7, #ARGV do
  searched[ARGV[i]] = true
  left = left + 1
end

check_whole()
local row, gone, delta, begun = nil, '', {}, {}

-- Goes to a checkpoint; to none if there is no id.
local function go_to(next_id)
  row = next_id ~= '' and row_at(ns, next_id) or nil
  gone = next_id ~= '' and not row and next_id or ''
end

if id == '' then
  row = latest_row(ns)
else
  go_to(id)
end
if row and ARGV[3] == '1' then
  local head = head_of(row)
  for channel in pairs(rebuilt_channels(head) or {}) do
    delta[#delta + 1] = channel
  end
  go_to(head[PARENT])
end

local function writes_of_searched(id, is_known)
  local found = {}
  for _, write in ipairs(writes_at(ns, id)) do
    local matches = false
    each_write(groups_of(write), function(entry, channel)
      if searched[channel] then
        matches = true
        if not is_known then
          want_entry(entry)
        end
      end
    end)
    if matches then
      found[#found + 1] = write
    end
  end
  return found
end

-- Channels whose value is stored here need no older ancestors.
local function seeds_of_searched(head, is_known)
  local seeds = {}
  each_value(head, function(entry, channel)
    if searched[channel] then
      if not is_known then
        want_entry(entry)
      end
      seeds[#seeds + 1] = channel
      seeds[#seeds + 1] = cmsgpack.pack(entry)
      searched[channel] = nil
      left = left - 1
    end
  end)
  return seeds
end

-- Notes the channels that no older ancestor has written.
local function note_begun(head)
  local is_stored = stored_channels(head)
  for channel in pairs(searched) do
    if is_stored[channel] == nil then
      begun[#begun + 1] = channel
    end
  end
end

-- Putting an old id again under one of its descendants makes a loop, hence `visited`.
local ancestors, visited = {}, {}
while row and left > 0 and #ancestors < tonumber(ARGV[4]) and bytes < BUDGET do
  local ancestor = id_of(row)
  if visited[ancestor] then
    row = nil
    break
  end
  visited[ancestor] = true
  local head = head_of(row)
  local is_known = is_before(ancestor, known_before)
  local writes = writes_of_searched(ancestor, is_known)
  ancestors[#ancestors + 1] = {writes, seeds_of_searched(head, is_known)}
  note_begun(head)
  fetch()
  if left > 0 then
    go_to(head[PARENT])
  end
end

return {ancestors, row and left > 0 and id_of(row) or '', gone, delta, begun, get_fetched()}
