-- Stores chunks ahead of the row that leads to them, as all of a large value at once would block the server.
--
-- Nothing refers to them until that row is there. A removal may free them before; those of a thread without rows
-- expire. While a sweep is under way, or where one was broken off, a row must come with all of its chunks.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- ARGV[1]  the token of the caller's lease, or empty
-- ARGV[2]  milliseconds after which the chunks of a thread without rows expire
-- ARGV[3]  digests of chunks, in one string, that must be there and do not come along
-- ARGV[4...] digest and content of each chunk
-- Returns  1; or 0 if nothing was stored, since the row must come with all of its chunks

-- Needs: chunks, guards, keys, whole

local guards = load_guards_for(ARGV[1], '0', '')
local fields = fields_to_write_by()
if guards then
  guards.check_lease(ARGV[1])
end
local may_be_refused = redis.call('HEXISTS', CONTROL, 'deleted') == 1
if may_be_refused or fields.may_lack or guards and guards.is_being_swept() or find_absent(ARGV[3]) ~= '' then
  return 0
end
store_chunks(ARGV, 4)
if redis.call('EXISTS', TIMELINE, WRITES) == 0 then
  redis.call('PEXPIRE', CHUNKS, ARGV[2])
end
return 1
