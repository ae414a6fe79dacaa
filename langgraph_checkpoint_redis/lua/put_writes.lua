-- Stores the writes of a task, complete or not at all.
--
-- KEYS     timeline, writes, chunks, runs, live of the thread
-- ARGV[1]  namespace
-- ARGV[2]  checkpoint id
-- ARGV[3]  task id
-- ARGV[4]  msgpack {format, {path, index, channel, entry, index, channel, entry, ...}}
-- ARGV[5]  1 if old checkpoints are trimmed: then late writes to one of them are dropped
-- ARGV[6]  how many of the chunks are nodes
-- ARGV[7...] digest and content of each chunk
-- Returns  1, or 0 when something that the writes refer to is not in the thread: then nothing was
--          written

-- include rows
-- include slices
-- include closure
-- include live
-- include chunks

local FIRST_CHUNK = 7
local place = prefix(ARGV[1], ARGV[2]) .. '\0' .. ARGV[3]
local groups = cmsgpack.unpack(ARGV[4])
local sent, references = chunks_sent(FIRST_CHUNK, tonumber(ARGV[6]))

-- Whether the checkpoint was there and is gone: then its namespace has moved on, or, where that was of
-- a subgraph's call, the root has.
local function is_trimmed(ns, id)
  if row_exists(ns, id) == 1 then
    return false
  end
  local latest = latest_row(ns) or string.find(ns, ':', 1, true) and latest_row('')
  return latest and is_before(id, id_of(latest))
end

if ARGV[5] == '1' and is_trimmed(ARGV[1], ARGV[2]) then
  return 1
end

each_write(groups, function(entry)
  references_of(entry, references)
end)
if not all_present(references, sent) then
  return 0
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
  redis.call('ZREM', WRITES, old_row)
end
store_chunks(FIRST_CHUNK)
redis.call('ZADD', WRITES, 0, place .. '\0' .. cmsgpack.pack(groups))
if is_being_swept() then
  each_write(groups, want_entry)
  leave_marks()
end
return 1
