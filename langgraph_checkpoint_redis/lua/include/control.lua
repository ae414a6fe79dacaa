-- What a thread's control says: whether it is pinned, and until when it may be used.

local function now()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- Whether the thread is pinned, and the milliseconds until it expires and until its lease ends: false for
-- what there is not.
local function control()
  local fields = redis.call('HMGET', KEYS[6], 'ttl', 'deadline', 'until')
  local time = now()
  local deadline = fields[2] and math.max(tonumber(fields[2]) - time, 0)
  local lease = fields[3] and tonumber(fields[3]) - time
  return fields[1] == '0', deadline, lease and lease > 0 and lease
end
