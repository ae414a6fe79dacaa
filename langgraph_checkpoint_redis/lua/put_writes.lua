-- Stores the writes of a task, complete or not at all.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- ARGV[1]  namespace
-- ARGV[2]  checkpoint id
-- ARGV[3]  task id
-- ARGV[4]  msgpack {format, {path, index, channel, entry, index, channel, entry, ...}}
-- ARGV[5]  1 if old checkpoints are trimmed: then late writes to one of them are dropped
-- ARGV[6]  the token of the caller's lease, or empty
-- ARGV[7]  milliseconds that the thread lives on, 0 if the caller does not say
-- ARGV[8]  the same for this thread from now on, whatever savers say; or empty
-- ARGV[9]  how many of the chunks are nodes
-- ARGV[10...] digest and content of each chunk
-- Returns  {stored, runs, lifetime}: stored is 0, and nothing was written, when something that the writes
--          refer to is not in the thread; runs are those whose index has to be renewed, and for how many
--          milliseconds

-- include rows
-- include care
-- include chunks

local FIRST_CHUNK = 10
local place = prefix(ARGV[1], ARGV[2]) .. '\0' .. ARGV[3]
local groups = cmsgpack.unpack(ARGV[4])
local sent, references = chunks_sent(FIRST_CHUNK, tonumber(ARGV[9]))
local care = care_for(ARGV[6], ARGV[7], ARGV[8])

-- Whether the checkpoint was there and is gone: then its namespace has moved on, or, where that was of
-- a subgraph's call, the root has.
local function is_trimmed(ns, id)
  if row_exists(ns, id) == 1 then
    return false
  end
  local latest = latest_row(ns) or string.find(ns, ':', 1, true) and latest_row('')
  return latest and is_before(id, id_of(latest))
end

if care then
  care.check_lease(ARGV[6])
  care.check_writes(ARGV[1], ARGV[2])
end
if ARGV[5] == '1' and is_trimmed(ARGV[1], ARGV[2]) then
  return {1, {}, 0}
end

each_write(groups, function(entry)
  references_of(entry, references)
end)
if not all_present(references, sent, care and care.is_being_swept()) then
  return {0, {}, 0}
end

-- Old writes with an index of 0 or more stay as they are; special ones (below 0) are replaced.
local function merge(old)
  local new = groups[2]
  local replaced, added, kept = {}, {new[1]}, {}
  for i = 2, #new, 3 do
    replaced[new[i]] = new[i] < 0
    kept[new[i]] = true
  end
  local merged = {FORMAT}
  for g = 2, #old do
    local group = {old[g][1]}
    for i = 2, #old[g], 3 do
      local index = old[g][i]
      if not replaced[index] then
        group[#group + 1] = index
        group[#group + 1] = old[g][i + 1]
        group[#group + 1] = old[g][i + 2]
        kept[index] = false
      end
    end
    if #group > 1 then
      merged[#merged + 1] = group
    end
  end
  for i = 2, #new, 3 do
    if kept[new[i]] then
      added[#added + 1] = new[i]
      added[#added + 1] = new[i + 1]
      added[#added + 1] = new[i + 2]
    end
  end
  if #added > 1 then
    merged[#merged + 1] = added
  end
  return merged
end

local old_row = redis.call(
  'ZRANGEBYLEX', WRITES, '[' .. place .. '\0', '(' .. place .. '\1', 'LIMIT', 0, 1
)[1]
if old_row then
  groups = merge(groups_of(old_row))
end
store_chunks(FIRST_CHUNK)
if care then
  care.mark(each_write, groups)
end
if old_row then
  redis.call('ZREM', WRITES, old_row)
end
redis.call('ZADD', WRITES, 0, sealed(place .. '\0' .. cmsgpack.pack(groups)))
if not care then
  return {1, {}, 0}
end
return {1, care.live_on_by(ARGV[7], ARGV[8])}
