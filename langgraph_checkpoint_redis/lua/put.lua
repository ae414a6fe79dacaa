-- Stores a checkpoint, complete or not at all.
--
-- KEYS     timeline, writes, chunks, runs, live of the thread
-- ARGV[1]  namespace
-- ARGV[2]  checkpoint id
-- ARGV[3]  head: msgpack {format, parent, run, root, delta, {channel, version, entry, ...}}; the
--          entry of a channel that did not change is 0 (its value, if any, is the parent's) or
--          1 (the same, and it certainly has a value)
-- ARGV[4]  tail
-- ARGV[5]  how many checkpoints of the namespace to keep, or 0 for all
-- ARGV[6]  how many of the chunks are nodes
-- ARGV[7...] digest and content of each chunk
-- Returns  {stored, run_is_new, gone}: stored is 0, and nothing was written, when something that the
--          checkpoint refers to is not in the thread; run_is_new is 1 when the run had no checkpoint
--          in this thread before; gone are the ids of the runs that have none left

-- include rows
-- include slices
-- include closure
-- include live
-- include chunks
-- include sweep
-- include retain
-- include trim

local FIRST_CHUNK = 7
local ns, id, head, tail = ARGV[1], ARGV[2], cmsgpack.unpack(ARGV[3]), ARGV[4]
local keep_last = tonumber(ARGV[5])
local sent, references = chunks_sent(FIRST_CHUNK, tonumber(ARGV[6]))

-- What the values of unchanged channels are, by version and channel. The checkpoint itself comes
-- first: a repeated put finds there what it found in the parent, even if that is gone by now.
local old_row = row_at(ns, id)
local kept

local function read_kept()
  kept = {}
  local parent_row = head[PARENT] ~= '' and row_at(ns, head[PARENT])
  for _, row in ipairs({old_row or false, parent_row or false}) do
    if row then
      local channels = head_of(row)[CHANNELS]
      for i = 1, #channels, 3 do
        local name = channels[i + 1] .. channels[i]
        kept[name] = kept[name] or channels[i + 2]
      end
    end
  end
end

local channels = head[CHANNELS]
for i = 1, #channels, 3 do
  local entry = channels[i + 2]
  if type(entry) == 'table' then
    references_of(entry, references)
  elseif entry then
    if not kept then
      read_kept()
    end
    channels[i + 2] = kept[channels[i + 1] .. channels[i]] or false
    if entry == 1 and not channels[i + 2] then
      return {0, 0, {}}
    end
  end
end

if not all_present(references, sent) then
  return {0, 0, {}}
end

store_chunks(FIRST_CHUNK)
if old_row then
  redis.call('ZREM', TIMELINE, old_row)
end
redis.call('ZADD', TIMELINE, 0, prefix(ns, id) .. '\0' .. cmsgpack.pack(head) .. tail)
if is_being_swept() then
  mark_run(head[RUN])
  each_value(head, want_entry)
  leave_marks()
end
local run_is_new = head[RUN] and redis.call('SADD', RUNS, head[RUN]) or 0
return {1, run_is_new, keep_last > 0 and trim(ns, keep_last) or {}}
