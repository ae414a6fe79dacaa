-- The index of a run: a sorted set of entries, each with the time until when it is needed for its score, in
-- milliseconds of Unix time. An entry that never ends has FAR and the time when it was made.
--
-- Expired entries go whenever an index is touched, and the key expires with its last entry. Older
-- versions stored plain sets of thread ids; they become sorted sets here.
--
-- Needs: clock
-- Gives: purge_entries, expire_with_entries

local function convert_set(index, time)
  local left = redis.call('PTTL', index)
  local score = left > 0 and time + left or FAR + time
  redis.call('ZUNIONSTORE', index, 1, index, 'WEIGHTS', integer(score))
end

-- Removes expired entries, and converts the set of an older version. A script calls this before its other writes:
-- it takes no memory, so a full server then lets readers renew an index.
local function purge_entries(index, time)
  local purged = redis.pcall('ZREMRANGEBYSCORE', index, '-inf', integer(time))
  if type(purged) == 'table' then
    if not string.find(purged.err, 'WRONGTYPE', 1, true) then
      redis.call('ZREMRANGEBYSCORE', index, '-inf', integer(time)) -- raises the error as the server does
    end
    convert_set(index, time)
  end
end

local function expire_with_entries(index)
  local last = redis.call('ZRANGE', index, -1, -1, 'WITHSCORES')[2]
  if last and tonumber(last) < FAR then
    redis.call('PEXPIREAT', index, integer(tonumber(last)))
  elseif last then
    redis.call('PERSIST', index)
  end
end
