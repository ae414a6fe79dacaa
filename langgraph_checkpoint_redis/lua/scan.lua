-- Reads all that is stored of a thread, a part in each call.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- ARGV[1], ARGV[2]  stage and position: 'chunks' and '0' at first, then as returned
-- Returns  {items, stage, position}: what this stage has, digest and chunk in turns, then rows of the
--          'timeline', then of the 'writes'; and where to go on, an empty stage at the end

-- include rows
-- include walk

local ROWS, CHUNKS_AT_A_TIME = 200, 100

local stage, items = ARGV[1], {}
steps, position = ROWS, ARGV[2]

local function take(row)
  items[#items + 1] = row
end

if stage == 'chunks' then
  local reply = redis.call('HSCAN', CHUNKS, position, 'COUNT', CHUNKS_AT_A_TIME)
  position, items = reply[1], reply[2]
  if position == '0' then
    stage, position = 'timeline', ''
  end
elseif stage == 'timeline' and walk(TIMELINE, take) then
  stage, position = 'writes', ''
elseif stage == 'writes' and walk(WRITES, take) then
  stage, position = '', ''
end
return {items, stage, position}
