-- The index of a run: a sorted set of entries, each with the time until when it is needed for its score, in
-- milliseconds of Unix time. An entry that never ends has FAR and the time when it was made.
--
-- Expired entries go whenever an index is touched, and the key expires with its last entry. Older
-- versions stored plain sets of thread ids; they become sorted sets here.
--
-- Gives: time, FAR, whole, expire_with_entries

local FAR = 1e15

local function server_time()
  local now = redis.call('TIME')
  return now[1] * 1000 + math.floor(now[2] / 1000)
end

local function whole(number)
  return string.format('%.0f', number)
end

local time = server_time()

local function convert()
  local left = redis.call('PTTL', KEYS[1])
  local score = left > 0 and time + left or FAR + time
  redis.call('ZUNIONSTORE', KEYS[1], 1, KEYS[1], 'WEIGHTS', whole(score))
end

-- Purging is the first write, as it takes no memory: a full server then lets readers renew an index.
local purged = redis.pcall('ZREMRANGEBYSCORE', KEYS[1], '-inf', whole(time))
if type(purged) == 'table' then
  if not string.find(purged.err, 'WRONGTYPE', 1, true) then
    redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', whole(time)) -- raises the error as the server does
  end
  convert()
end

local function expire_with_entries()
  local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
  if last and tonumber(last) < FAR then
    redis.call('PEXPIREAT', KEYS[1], whole(tonumber(last)))
  elseif last then
    redis.call('PERSIST', KEYS[1])
  end
end
