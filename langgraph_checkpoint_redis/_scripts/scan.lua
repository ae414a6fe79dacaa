-- Reads all that is stored of a thread, but for the content of chunks, a part in each call.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- ARGV[1], ARGV[2]  stage and position: 'chunks' and '0', or 'timeline' and empty, at first, then as
--          returned
-- Returns  {items, stage, position, facts, lost}: what this stage has, names of chunks, then rows of
--          the 'timeline', then of the 'writes'; where to go on, an empty stage at the end; facts at the
--          beginning and at the end of the timeline, else empty: {state, runs, seconds}, the state as in
--          state.lua, each run followed by its number of checkpoints, and the time; at the end, lost
--          has the names of keys that are gone though the thread has rows there, as whole.lua has it

-- Needs: state, whole, runs, keys, pages, clock
-- Sets: bytes, position, steps

local ROWS, NAMES, BATCH = 200, 500, 1000

local stage, items, facts, lost = ARGV[1], {}, {}, {}
steps, position = ROWS, ARGV[2]

local function take(row)
  items[#items + 1] = row
end

-- Takes names behind `position` without the chunks. A server before Redis 7.4 has no such command: there a
-- call reads a few chunks, and ends when they are large.
local function take_names()
  local reply = redis.pcall('HSCAN', CHUNKS, position, 'COUNT', BATCH, 'NOVALUES')
  if not reply.err then
    position, items = reply[1], reply[2]
    return
  end
  repeat
    reply = redis.call('HSCAN', CHUNKS, position, 'COUNT', bytes < 65536 and 10 or 1)
    position = reply[1]
    for i = 1, #reply[2], 2 do
      items[#items + 1] = reply[2][i]
      bytes = bytes + #reply[2][i + 1]
    end
  until position == '0' or #items >= NAMES or bytes >= BYTES
end

local function read_facts()
  local runs = {}
  each_run(function(run, count)
    runs[#runs + 1] = run
    runs[#runs + 1] = integer(count)
  end)
  facts = {state_of_thread(), runs, redis.call('TIME')[1]}
end

if stage == 'chunks' then
  take_names()
  if position == '0' then
    stage, position = 'timeline', ''
  end
elseif stage == 'timeline' then
  if position == '' then
    read_facts()
  end
  if walk(TIMELINE, take) then
    read_facts()
    stage, position = 'writes', ''
  end
elseif walk(WRITES, take) then
  lost = lost_keys(fields_of(CHUNKS), OWN_KEYS)
  stage, position = '', ''
end
return {items, stage, position, facts, lost}
