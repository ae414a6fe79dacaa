-- Whether a thread is whole, by small fields of CHUNKS that are no digests:
--
-- timeline  the timeline has rows
-- writes    the writes have rows
-- swept     a sweep has begun to free chunks, and none has finished since: a node may be there without
--           what it refers to
-- trimmed   see trimmed.lua
-- freed     the last pass of several calls that has freed all that it was to, see sweep.lua
-- ttl       see control.lua
-- lost      CHUNKS was gone while there were rows: a row may be there without its chunks
--
-- A server that evicts takes a key whole. So a key that is gone is noticed by the fields, and the fields go
-- only together with the chunks they speak of.

-- Whether a key is gone although its mark, the field of its name, says that it has rows.
local function is_lost(mark, key)
  return mark and redis.call('EXISTS', key) == 0
end

local function check_key(key, mark)
  if is_lost(mark, key) then
    refuse('LOST', key)
  end
end

-- Return the first key with rows that is gone, or nil.
local function lost_key(timeline, writes, chunks)
  local marks = redis.call('HMGET', chunks, 'timeline', 'writes')
  return is_lost(marks[1], timeline) and timeline or is_lost(marks[2], writes) and writes or nil
end

-- Raises an error if a key with rows is gone. For readers that have found less than they looked for.
local function check_whole()
  local lost = lost_key(TIMELINE, WRITES, CHUNKS)
  if lost then
    refuse('LOST', lost)
  end
end

-- The fields, for a writer. Raises an error if a key with rows is gone.
local function fields_to_write_by()
  local fields = redis.call('HMGET', CHUNKS, 'timeline', 'writes', 'swept', 'lost', 'ttl')
  check_key(TIMELINE, fields[1])
  check_key(WRITES, fields[2])
  local is_noted = fields[1] or fields[2] or fields[3] or fields[4]
  -- Rows without any of these fields: the chunks are lost, or the thread is of an older version, which may have
  -- stopped in the middle of a sweep.
  local is_unknown = not is_noted and redis.call('EXISTS', TIMELINE, WRITES) > 0
  return {
    timeline = fields[1],
    writes = fields[2],
    is_unknown = is_unknown,
    may_lack = fields[3] or fields[4] or is_unknown,
    ttl = fields[5],
  }
end

-- Notes that `name`, the timeline or the writes, has rows, and what else is true of the thread, unless this is
-- known. Called before chunks are stored.
local function note_rows(name, fields)
  if fields.is_unknown then
    redis.call('HSET', CHUNKS, redis.call('EXISTS', CHUNKS) == 1 and 'swept' or 'lost', '1')
    for other, key in pairs({timeline = TIMELINE, writes = WRITES}) do
      if redis.call('EXISTS', key) == 1 then
        redis.call('HSET', CHUNKS, other, '1')
      end
    end
  end
  if not fields[name] then
    redis.call('HSET', CHUNKS, name, '1')
  end
end

-- Calls remove(), and notes which keys have no rows any more after it. A key that was gone before is not taken for
-- one that this removal has emptied. Where there are no rows at all, the chunks go, too.
local function note_removal(remove)
  local had = {timeline = redis.call('EXISTS', TIMELINE) == 1, writes = redis.call('EXISTS', WRITES) == 1}
  local done, failure = pcall(remove)
  local are_gone = {
    timeline = redis.call('EXISTS', TIMELINE) == 0,
    writes = redis.call('EXISTS', WRITES) == 0,
  }
  for name, is_gone in pairs(are_gone) do
    if had[name] and is_gone then
      redis.call('HDEL', CHUNKS, name)
    end
  end
  local is_empty = are_gone.timeline and are_gone.writes and (had.timeline or had.writes)
  if is_empty and redis.call('HEXISTS', CHUNKS, 'timeline') + redis.call('HEXISTS', CHUNKS, 'writes') == 0 then
    redis.call('UNLINK', CHUNKS)
  end
  if not done then
    error(failure, 0)
  end
end
