-- Stores a checkpoint, complete or not at all. As put_last, it also removes old checkpoints. Without that, as put, it
-- defines fewer functions, and each of them takes time in each call.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread; none or, if chunks came ahead, chunks again
-- ARGV[1]  namespace
-- ARGV[2]  checkpoint id
-- ARGV[3]  head: msgpack {format, parent, run, root, delta, {channel, version, entry, ...}}; the
--          entry of a channel that did not change is 0 (its value, if any, is the parent's) or
--          1 (the same, and it certainly has a value)
-- ARGV[4]  tail
-- ARGV[5]  how many checkpoints of the namespace to keep; 0 for put
-- ARGV[6]  the token of the caller's lease, or empty
-- ARGV[7]  milliseconds that the thread lives on, 0 if the caller does not say
-- ARGV[8]  the same for this thread from now on, whatever savers say; or empty
-- ARGV[9]  1 to refuse a checkpoint whose namespace has moved on past its parent, or 0
-- ARGV[10] a new entry of the run in the index of runs, as its token and its score; or empty
-- ARGV[11] digests of chunks, in one string, that must be there and do not come along
-- ARGV[12...] digest and content of each chunk
-- Returns  {1, unneeded, runs, lifetime, gone}: unneeded is that entry, if the thread has no need of it; runs are
--          those whose entries have to be renewed, and for how many milliseconds; gone are the runs that
--          have none left, with the tokens of their entries.
--          Nothing was written with {0, digests, channels}: the digests, in one string, of chunks that are
--          missing, and the unchanged channels whose value is; nor with {2, lifetime}: the run has no
--          checkpoint here and needs a new entry, for so many milliseconds

-- Needs: run_counts, chunks, keys, guards, refuse, runs, parents, rows, whole, unchanged
-- Only in put_last: trim
-- Within check_ancestors: ancestors
-- Within replace_old_row: replaced
-- Within note_arrival_for_removals: arrived

local FIRST_CHUNK = 12
local ns, id, head, tail = ARGV[1], ARGV[2], cmsgpack.unpack(ARGV[3]), ARGV[4]
local old_row, parent_row

local function check_ancestors()
  local _, gone = needed_ancestors(ns, head)
  if gone then
    refuse('ANCESTOR', TIMELINE, ns, id, gone)
  end
end

local function replace_old_row()
  replace_checkpoint(ns, head, old_row)
end

local function note_arrival_for_removals()
  note_arrival(ns, id, head, parent_row)
end

-- Returns the digests of chunks that the checkpoint refers to and that are not there, and the unchanged channels whose
-- value is not there.
local function find_missing(filled, may_lack)
  local channels = find_lost_channels(filled, may_lack)
  if not may_lack then
    return find_absent(ARGV[11]), channels
  end
  local function each_changed(_, visit)
    each_value(head, function(entry, channel)
      if filled[channel] == nil then
        visit(entry)
      end
    end)
  end
  return find_lacking(each_changed, nil, ARGV, FIRST_CHUNK), channels
end

local fields = fields_to_write_by()
local guards = load_guards_for(ARGV[6], ARGV[7], ARGV[8], fields.ttl)
old_row = row_at(ns, id)
parent_row = head[PARENT] ~= '' and row_at(ns, head[PARENT]) or nil

-- All refusals come first: a checkpoint that is refused has written nothing.
if guards then
  guards.check_lease(ARGV[6])
  guards.check_checkpoint(ns, id, head)
end
if ARGV[9] == '1' and not old_row then
  check_moved_on(ns, head)
end
redis.call('HLEN', RUNS) -- raises an error if it is no hash
local filled = fill_in_unchanged(head, old_row, parent_row)
if may_lack_ancestors(ns, head, old_row, parent_row, fields.may_lack) then
  check_ancestors()
end
local may_lack = fields.may_lack or guards and guards.is_being_swept()
local digests, channels = find_missing(filled, may_lack)
if not may_lack and (digests ~= '' or channels[1]) then -- then more may be, further below
  digests, channels = find_missing(filled, true)
end
if digests ~= '' or channels[1] then
  return {0, digests, channels}
end
local run, registration = head[RUN], ARGV[10]
local life = run and guards and guards.span_of(ARGV[7], ARGV[8]) or 0
local token, needs_entry, score = nil, false, nil
if run then
  token, needs_entry, score = judge_registration(run, registration, life)
end
if needs_entry then
  return {2, 3 * life}
end
local old_run = old_row and head_of(old_row)[RUN]
local plan = plan_trim and plan_trim(ns, id, head, tonumber(ARGV[5]), old_row)

-- The row comes last of what is written for the checkpoint, as it is all that readers go by.
note_rows('timeline', fields)
store_chunks(ARGV, FIRST_CHUNK)
keep_chunks(fields)
if guards then
  guards.mark(each_value, head)
end
local is_only = guards and redis.call('EXISTS', RUNS) == 0
local is_held = count_runs(old_run, run, token)
if is_held and guards then
  guards.note_entry(score, is_only)
end
local unneeded = registration ~= '' and not is_held and {with_tokens(run, ' ' .. registration:match('%S+'))} or {}
if old_row then
  replace_old_row()
end
if head[DELTA] and redis.call('HEXISTS', CHUNKS, 'removals') == 1 then
  note_arrival_for_removals()
end
redis.call('ZADD', TIMELINE, 0, with_checksum(prefix(ns, id) .. '\0' .. cmsgpack.pack(head) .. tail))
if not fields.timeline then
  expire_with_rows(TIMELINE)
end
settle_chunks(#KEYS > 6)
local runs, lifetime = {}, 0
if guards then
  runs, lifetime = guards.extend_expiry_by(ARGV[7], ARGV[8])
end
if not plan then
  return {1, unneeded, runs, lifetime, {}}
end
local gone = trim(plan)
-- Where the row was there, perhaps this was done already, and the reply was lost.
return {1, unneeded, runs, lifetime, old_row and find_runs_gone() or gone}
