-- Puts a row in the place of another, which says the same in other bytes.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- ARGV[1]  the token of the caller's lease, or empty
-- ARGV[2]  1 for the timeline or 2 for the writes
-- ARGV[3]  the row
-- ARGV[4]  the other one, without its checksum
-- ARGV[5]  digests of chunks, in one string, that must be there and do not come along
-- ARGV[6...] digest and content of each chunk
-- Returns  1; -1 when the row is gone, and not by this call; 0 when something that the other one
--          refers to is not in the thread

-- Needs: control, chunks, lease, keys, whole, live, rows, closure

local FIRST_CHUNK = 6

read_control()
check_lease(ARGV[1])
local key, row, new_row = KEYS[tonumber(ARGV[2])], ARGV[3], with_checksum(ARGV[4])

local function is_there(some_row)
  return redis.call('ZLEXCOUNT', key, '[' .. some_row, '[' .. some_row) == 1
end

if not is_there(row) then
  return is_there(new_row) and 1 or -1 -- 1 when this call is repeated
end

local function each_entry(visit)
  if key == TIMELINE then
    each_value(head_of(new_row), visit)
  else
    each_write(groups_of(new_row), visit)
  end
end

local fields = fields_to_write_by()
if fields.may_lack or is_being_swept() then
  if find_lacking(function(_, visit) each_entry(visit) end, nil, ARGV, FIRST_CHUNK) ~= '' then
    return 0
  end
elseif find_absent(ARGV[5]) ~= '' then
  return 0
end
note_rows(key == TIMELINE and 'timeline' or 'writes', fields)
store_chunks(ARGV, FIRST_CHUNK)
if new_row ~= row then
  redis.call('ZADD', key, 0, new_row) -- first, so that the key is never empty and stays with its expiry
  redis.call('ZREM', key, row)
end
if is_being_swept() then
  each_entry(want_entry)
  leave_marks(false)
end
-- What is new in the thread expires with it.
local left = redis.call('PTTL', TIMELINE)
if left > 0 then
  redis.call('PEXPIRE', CHUNKS, left)
end
return 1
