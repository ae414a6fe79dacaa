-- Writes a part of a copy to keys of its own; the last part makes all of it a thread.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the target; its copy mark; timeline, writes, chunks,
--          runs as this copy collects them
-- ARGV[1]  a random token of this copy
-- ARGV[2]  how long the mark lasts, and what is left of a copy that was given up, in milliseconds
-- ARGV[3]  the token of the caller's lease of the target, or empty
-- ARGV[4], ARGV[5]  the token and the score of new entries that lead from runs to the target
-- ARGV[6], ARGV[7], ARGV[8], ARGV[9]  the number of members of each key with the last part, empty before
-- ARGV[10], ARGV[11]  how long the thread lives, as control.lua says: its own time to live, and its deadline, empty
--          where there is none
-- ARGV[12], ARGV[13], ARGV[14], ARGV[15], ARGV[16]  the number of arguments for each of the four keys, and of the
--          runs that have an entry
-- ARGV[17...] those arguments: rows, or fields and values; then the runs
-- Returns  COPIED; MORE if further parts are expected; CHANGED if something is missing, as the copy was read from a
--          thread that changed; EXISTS if the target has something already; LEASED or LEASELOST if its
--          lease refuses the caller; LOST and a key, with a blank between them, if this key of the target is gone

-- Needs: target, control, slices

local function store_rows(key, first, last)
  each_slice(last - first + 1, function(from, to)
    local members = {}
    for i = first + from - 1, first + to - 1 do
      members[#members + 1] = 0
      members[#members + 1] = ARGV[i]
    end
    redis.call('ZADD', key, unpack(members, 1, #members))
  end)
end

local function store_fields(key, first, last)
  each_slice(last - first + 1, function(from, to) -- an even number, so that no pair is cut
    redis.call('HSET', key, unpack(ARGV, first + from - 1, first + to - 1))
  end)
end

local function store_part()
  local first = 17
  for i = 1, 4 do
    local last = first + tonumber(ARGV[i + 11]) - 1
    local store = i <= 2 and store_rows or store_fields
    store(KEYS[i + 7], first, last)
    redis.call('PEXPIRE', KEYS[i + 7], ARGV[2])
    first = last + 1
  end
end

local function is_complete()
  for i = 1, 4 do
    local size = redis.call(i <= 2 and 'ZCARD' or 'HLEN', KEYS[i + 7])
    if size ~= tonumber(ARGV[i + 5]) then
      return false
    end
  end
  return true
end

read_control()
local score = tonumber(ARGV[5])
if is_copied(KEYS[7], ARGV[1]) then
  mark_target(KEYS[7], ARGV[1], ARGV[2]) -- a write, which `WAIT` waits for
  return 'COPIED'
end
local refusal = find_copy_refusal(ARGV[3])
if refusal then
  redis.call('UNLINK', KEYS[8], KEYS[9], KEYS[10], KEYS[11])
  return refusal
end
store_part()
local ttl, deadline = ARGV[10] ~= '' and ARGV[10], ARGV[11] ~= '' and ARGV[11]
local first_run = #ARGV - tonumber(ARGV[16]) + 1
if ARGV[6] == '' then
  return 'MORE'
elseif not (is_complete() and have_entries(KEYS[11], ARGV, first_run, score, deadline)) then
  redis.call('UNLINK', KEYS[8], KEYS[9], KEYS[10], KEYS[11])
  return 'CHANGED'
end
for i = 1, 4 do
  if redis.call('EXISTS', KEYS[i + 7]) == 1 then
    redis.call('UNLINK', KEYS[i])
    redis.call('RENAME', KEYS[i + 7], KEYS[i])
  end
end
begin_life(ttl, deadline, score)
hold_entries(ARGV[4])
mark_target(KEYS[7], ARGV[1], ARGV[2])
return 'COPIED'
