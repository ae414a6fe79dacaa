-- Reads a part of a thread as it is stored, to restore it elsewhere.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- ARGV[1]  a random token of this reader at first, then as returned
-- ARGV[2], ARGV[3]  stage and position: empty at first, then as returned
-- Returns  {token, stage, position, part, part, part, part, sizes, ttl, deadline}: an empty token if the thread has
--          changed since the first part, or has lost a key, whose name is the stage then; and an empty stage at the
--          end. The parts are of the first four keys: rows, or fields and values. What follows comes with the end:
--          the number of members of each key, and how long the thread lives, as control.lua says; empty is what
--          there is not

-- Needs: control, watch, source, keys

-- Roughly the bytes of a part, and the members that are read at a time. More than one part is of one moment only
-- while the thread is watched, and each key can be lost between two of them.
local BYTES, MEMBERS = 256 * 1024, 20

local token, stage, position = ARGV[1], ARGV[2], ARGV[3]
local parts, left = {{}, {}, {}, {}}, BYTES

read_control()
local lost = find_lost_key(TIMELINE, WRITES, CHUNKS)
if lost or stage ~= '' and not is_watched_by(token) then
  return {'', lost or '', '', {}, {}, {}, {}, {}, '', ''}
end

local function take(part, items)
  for _, item in ipairs(items) do
    part[#part + 1] = item
    left = left - #item
  end
end

-- Each reads on from `position` and returns whether that was all. A chunk may have many megabytes, so they are read
-- one by one.
local function read_rows(key, part)
  local from = position == '' and '-' or '(' .. position
  local rows = redis.call('ZRANGEBYLEX', key, from, '+', 'LIMIT', 0, MEMBERS)
  take(part, rows)
  position = rows[MEMBERS] or ''
  return position == ''
end

local function read_fields(key, part)
  local reply = redis.call('HSCAN', key, position == '' and '0' or position, 'COUNT', 1)
  take(part, reply[2])
  position = reply[1] ~= '0' and reply[1] or ''
  return position == ''
end

local key = tonumber(stage) or 1
while key <= 4 and left > 0 do
  local read = key <= 2 and read_rows or read_fields
  if read(KEYS[key], parts[key]) then
    key = key + 1
  end
end

if key <= 4 then
  return {watch(token), tostring(key), position, parts[1], parts[2], parts[3], parts[4], {}, '', ''}
end
local sizes = {
  redis.call('ZCARD', TIMELINE), redis.call('ZCARD', WRITES), redis.call('HLEN', CHUNKS), redis.call('HLEN', RUNS)
}
return {
  token, '', '', parts[1], parts[2], parts[3], parts[4], sizes, control.ttl or '', control.deadline or ''
}
