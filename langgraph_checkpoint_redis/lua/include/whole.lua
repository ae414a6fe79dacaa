-- Whether a thread is whole, by small fields of CHUNKS that are no digests:
--
-- timeline  the timeline has rows
-- writes    the writes have rows
-- swept     a sweep has begun to free chunks, and none has finished since: a node may be there without
--           what it refers to
-- trimmed   see trimmed.lua
-- freed     the last pass of several calls that has freed all that it was to, see sweep.lua
-- lost      CHUNKS was gone while there were rows: a row may be there without its chunks
--
-- A server that evicts takes a key whole. So a key that is gone is noticed by the fields, and the fields go
-- only together with the chunks they speak of.

local function check_key(key, has_rows)
  if has_rows and redis.call('EXISTS', key) == 0 then
    refuse('LOST', key)
  end
end

-- Raises an error if a key with rows is gone. For readers that have found less than they looked for.
local function check_whole()
  local fields = redis.call('HMGET', CHUNKS, 'timeline', 'writes')
  check_key(TIMELINE, fields[1])
  check_key(WRITES, fields[2])
end

-- The fields, for a writer. Raises an error if a key with rows is gone.
local function fields_to_write_by()
  local fields = redis.call('HMGET', CHUNKS, 'timeline', 'writes', 'swept', 'lost')
  check_key(TIMELINE, fields[1])
  check_key(WRITES, fields[2])
  local is_noted = fields[1] or fields[2] or fields[3] or fields[4]
  local is_lost_now = not is_noted
    and redis.call('EXISTS', TIMELINE, WRITES) > 0
    and redis.call('EXISTS', CHUNKS) == 0
  return {
    timeline = fields[1],
    writes = fields[2],
    is_lost_now = is_lost_now,
    may_lack = fields[3] or fields[4] or is_lost_now,
  }
end

-- Notes that `name`, the timeline or the writes, has rows, and that chunks are lost, unless this is known.
local function note_rows(name, fields)
  if not fields[name] then
    redis.call('HSET', CHUNKS, name, '1')
  end
  if fields.is_lost_now then
    redis.call('HSET', CHUNKS, 'lost', '1')
  end
end

-- Notes for a removal which keys have no rows any more. Where there are none at all, the chunks go, too.
local function note_removal()
  local has_timeline = redis.call('EXISTS', TIMELINE) == 1
  local has_writes = redis.call('EXISTS', WRITES) == 1
  if not (has_timeline or has_writes) then
    redis.call('UNLINK', CHUNKS)
  elseif not has_timeline then
    redis.call('HDEL', CHUNKS, 'timeline')
  elseif not has_writes then
    redis.call('HDEL', CHUNKS, 'writes')
  end
end
