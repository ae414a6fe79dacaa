-- Takes back the mark `lost`, if the whole thread was looked at and lacks nothing.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- ARGV[1]  the token of the caller's lease, or empty
-- ARGV[2]  0 before the look, 1 behind it
-- ARGV[3]  before the look, a random token; behind it, what was returned then
-- Returns  before the look, a token, or empty if there is no such mark; behind it, 1 if the mark was taken back, or 0
--          if the thread may have changed

-- Needs: keys, control, watch, lease

local LOOK = 600000 -- milliseconds that a look may take

read_control()
if ARGV[2] == '0' then
  return redis.call('HEXISTS', CHUNKS, 'lost') == 1 and watch(ARGV[3], LOOK) or ''
end
-- A sweep that is given up before it frees anything leaves no mark, but may leave nodes that lack something.
local is_same = is_watched_by(ARGV[3]) and redis.call('EXISTS', LIVE) == 0
check_lease(ARGV[1])
if is_same then
  redis.call('HDEL', CHUNKS, 'lost')
end
return is_same and 1 or 0
