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
-- only together with the chunks they speak of. Then nothing says whether the timeline and the writes had rows,
-- but that rows of today's format are never without these fields.
--
-- Needs: rows, refuse, keys
-- Gives: exists, has_marked_rows, OWN_KEYS, lost_keys, FIELDS, fields_of, check_whole, is_unknown, fields_to_write_by,
--   expire_with_rows, note, note_unknown, note_rows, note_removal, accept_loss

local function exists(key)
  return redis.call('EXISTS', key) == 1
end

-- Returns whether a key has rows that are never without fields: those at both of its ends tell. `read` is head_of or
-- groups_of.
local function has_marked_rows(key, read)
  for _, rank in ipairs({0, -1}) do
    local row = redis.call('ZRANGE', key, rank, rank)[1]
    if row and read(row)[1] ~= UNMARKED then
      return true
    end
  end
  return false
end

local OWN_KEYS = {timeline = TIMELINE, writes = WRITES, chunks = CHUNKS}

-- Returns the names of a thread's keys that are gone, though they have rows, or may have had. `fields` begins with what
-- the chunks say of the timeline and of the writes. Where both are there, the chunks alone may be gone: then rows
-- that need them say so themselves.
local function lost_keys(fields, keys)
  local lost = {}
  if fields[1] or fields[2] then
    for i, name in ipairs({'timeline', 'writes'}) do
      if fields[i] and not exists(keys[name]) then
        lost[#lost + 1] = name
      end
    end
  else
    local has_timeline, has_writes = exists(keys.timeline), exists(keys.writes)
    if
      has_timeline and not has_writes and has_marked_rows(keys.timeline, head_of)
      or has_writes and not has_timeline and has_marked_rows(keys.writes, groups_of)
    then
      lost[1] = 'chunks'
    end
  end
  return lost
end

local function refuse_lost(fields)
  local name = lost_keys(fields, OWN_KEYS)[1]
  if name then
    refuse('LOST', OWN_KEYS[name])
  end
end

local FIELDS = {'timeline', 'writes', 'swept', 'lost', 'ttl'}

local function fields_of(chunks)
  return redis.call('HMGET', chunks, FIELDS[1], FIELDS[2], FIELDS[3], FIELDS[4], FIELDS[5])
end

-- Raises an error if a key with rows is gone. For readers that have found less than they looked for.
local function check_whole()
  refuse_lost(fields_of(CHUNKS))
end

-- Returns whether there are rows without any of the fields: the chunks are lost, or the thread is of an older version,
-- which may have stopped in the middle of a sweep.
local function is_unknown(fields)
  local is_noted = fields[1] or fields[2] or fields[3] or fields[4]
  return not is_noted and redis.call('EXISTS', TIMELINE, WRITES) > 0
end

-- Returns the fields, for a writer. Raises an error if a key with rows is gone.
local function fields_to_write_by()
  local fields = fields_of(CHUNKS)
  refuse_lost(fields)
  local unknown = is_unknown(fields)
  return {
    timeline = fields[1],
    writes = fields[2],
    is_unknown = unknown,
    may_lack = fields[3] or fields[4] or unknown,
    ttl = fields[5],
  }
end

-- Lets a key that has just begun expire with the rows that are there, as CONTROL may be evicted: it must not outlive
-- them, or they would pass for lost.
local function expire_with_rows(key)
  local left = math.max(redis.call('PTTL', TIMELINE), redis.call('PTTL', WRITES))
  if left > 0 then
    redis.call('PEXPIRE', key, left)
  end
end

-- Sets a field. Where CHUNKS is gone and begins with it, it expires with the rows.
local function note(name)
  local is_new = not exists(CHUNKS)
  redis.call('HSET', CHUNKS, name, '1')
  if is_new then
    expire_with_rows(CHUNKS)
  end
end

local function note_rows_there()
  for _, name in ipairs({'timeline', 'writes'}) do
    if exists(OWN_KEYS[name]) then
      note(name)
    end
  end
end

-- Notes what there is in a thread that is_unknown.
local function note_unknown()
  note(exists(CHUNKS) and 'swept' or 'lost')
  note_rows_there()
end

-- Notes that `name`, the timeline or the writes, has rows, and what else is true of the thread, unless this is
-- known. Called before chunks are stored.
local function note_rows(name, fields)
  if fields.is_unknown then
    note_unknown()
  end
  if not fields[name] then
    redis.call('HSET', CHUNKS, name, '1')
  end
end

local function remove_chunks_if_no_rows_are_noted()
  if redis.call('HEXISTS', CHUNKS, 'timeline') + redis.call('HEXISTS', CHUNKS, 'writes') == 0 then
    redis.call('UNLINK', CHUNKS)
  end
end

-- Calls remove(), and notes which keys have no rows any more after it. A key that was gone before is not taken for
-- one that this removal has emptied. Where there are no rows at all, the chunks go, too.
local function note_removal(remove)
  local had = {timeline = exists(TIMELINE), writes = exists(WRITES)}
  local done, failure = pcall(remove)
  local are_gone = {timeline = not exists(TIMELINE), writes = not exists(WRITES)}
  for name, is_gone in pairs(are_gone) do
    if had[name] and is_gone then
      redis.call('HDEL', CHUNKS, name)
    end
  end
  if are_gone.timeline and are_gone.writes and (had.timeline or had.writes) then
    remove_chunks_if_no_rows_are_noted()
  end
  if not done then
    error(failure, 0)
  end
end

-- Makes a thread readable and writable again that has lost a key.
local function accept_loss(name)
  if name == 'chunks' then
    note('lost')
    note_rows_there()
  else
    redis.call('HDEL', CHUNKS, name)
    if redis.call('EXISTS', TIMELINE, WRITES) == 0 then
      remove_chunks_if_no_rows_are_noted()
    end
  end
end
