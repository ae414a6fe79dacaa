-- Copies a thread inside the server, if it is so small that this takes little time.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the target; its copy mark; timeline, writes, chunks,
--          runs, control of the source
-- ARGV[1]  a random token of this copy
-- ARGV[2]  how long the mark lasts, in milliseconds
-- ARGV[3]  the token of the caller's lease of the target, or empty
-- ARGV[4], ARGV[5]  the token and the score of new entries that lead from runs to the target
-- ARGV[6...] the runs that have one
-- Returns  COPIED; NOTHING if there is no such source; LARGE if it is, or may be, too large for one call; CHANGED, and
--          nothing was written, when entries are lacking, or may be gone too soon; EXISTS if the target has something
--          already; LEASED or LEASELOST if its lease refuses the caller; LOST and a key, with a blank between them,
--          if this key of the source or of the target is gone

-- Needs: target, control, source

-- What takes some milliseconds; 100 MB would take up to a second. Where the server does not say how many bytes
-- there are, fewer members are small enough.
local MEMBERS, BYTES, FEW = 5000, 4 * 1024 * 1024, 500

local function members()
  return redis.call('ZCARD', KEYS[8])
    + redis.call('ZCARD', KEYS[9])
    + redis.call('HLEN', KEYS[10])
    + redis.call('HLEN', KEYS[11])
end

local function is_large()
  local count, bytes = members(), 0
  for i = 8, count <= MEMBERS and 11 or 0 do
    local size = redis.pcall('MEMORY', 'USAGE', KEYS[i], 'SAMPLES', 0)
    if type(size) == 'table' then -- an error: this user may not ask
      return count > FEW
    end
    bytes = bytes + (size or 0)
  end
  return count > MEMBERS or bytes > BYTES
end

read_control()
local score = tonumber(ARGV[5])
if is_copied(KEYS[7], ARGV[1]) then
  mark_target(KEYS[7], ARGV[1], ARGV[2]) -- a write, which `WAIT` waits for
  return 'COPIED'
end
local life = redis.call('HMGET', KEYS[12], 'ttl', 'deadline')
life[1] = life[1] or redis.call('HGET', KEYS[10], 'ttl') -- see control.lua
local lost = find_lost_key(KEYS[8], KEYS[9], KEYS[10])
local is_there = redis.call('EXISTS', KEYS[8], KEYS[9]) > 0 -- chunks alone may be ahead of the first row
local refusal = find_copy_refusal(ARGV[3])
  or lost and 'LOST ' .. lost
  or not is_there and 'NOTHING'
  or is_large() and 'LARGE'
if refusal then
  return refusal
elseif not have_entries(KEYS[11], ARGV, 6, score, life[2]) then
  return 'CHANGED'
end
for i = 1, 4 do
  if redis.call('EXISTS', KEYS[i + 7]) == 1 then
    redis.call('COPY', KEYS[i + 7], KEYS[i], 'REPLACE')
  end
end
begin_life(life[1], life[2], score)
hold_entries(ARGV[4])
mark_target(KEYS[7], ARGV[1], ARGV[2])
return 'COPIED'
