-- Stores the writes of a task, complete or not at all.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread; none or, if chunks came ahead, chunks again
-- ARGV[1]  namespace NUL checkpoint id NUL task id
-- ARGV[2]  the row with its checksum; its groups are {format, {path, index, channel, entry, index, channel, entry, ...}}
-- ARGV[3]  1 if old checkpoints are trimmed: then late writes to one of them are dropped
-- ARGV[4]  the token of the caller's lease, or empty
-- ARGV[5]  milliseconds that the thread lives on, 0 if the caller does not say
-- ARGV[6]  the same for this thread from now on, whatever savers say; or empty
-- ARGV[7]  digests of chunks, in one string, that must be there and do not come along
-- ARGV[8...] digest and content of each chunk
-- Returns  {1, runs, lifetime}: the runs whose index has to be renewed, and for how many milliseconds. Or {0,
--          digests} when nothing was written: the digests, in one string, of chunks that are missing

-- Needs: chunks, guards, whole, keys, rows, trimmed
-- Within merge_with: merge

local FIRST_CHUNK = 8
local name, row = ARGV[1], ARGV[2]
local fields = fields_to_write_by()
local guards = load_guards_for(ARGV[4], ARGV[5], ARGV[6], fields.ttl)

if guards then
  guards.check_lease(ARGV[4])
  guards.check_writes(split_row(row))
end
if ARGV[3] == '1' and was_trimmed(split_row(row)) then
  return {1, {}, 0}
end

local function merge_with(old_row)
  return merge_rows(name, old_row, row)
end

local old_row = redis.call(
  'ZRANGEBYLEX', WRITES, '[' .. name .. '\0', '(' .. name .. '\1', 'LIMIT', 0, 1
)[1]
if old_row then
  row = merge_with(old_row)
end
if fields.may_lack or guards and guards.is_being_swept() or find_absent(ARGV[7]) ~= '' then
  local missing = find_lacking(each_write, groups_of(row), ARGV, FIRST_CHUNK)
  if missing ~= '' then
    return {0, missing}
  end
end
note_rows('writes', fields)
store_chunks(ARGV, FIRST_CHUNK)
keep_chunks(fields)
if guards then
  guards.mark(each_write, groups_of(row))
end
if old_row then
  redis.call('ZREM', WRITES, old_row)
end
redis.call('ZADD', WRITES, 0, row)
if not fields.writes then
  expire_with_rows(WRITES)
end
settle_chunks(#KEYS > 6)
if not guards then
  return {1, {}, 0}
end
return {1, guards.extend_expiry_by(ARGV[5], ARGV[6])}
