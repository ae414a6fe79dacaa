-- Times and scores. A time is a number of milliseconds of Unix time, by the server's clock.
--
-- Gives: FAR, now, integer

-- An entry in the index of runs has its end for its score. The score of one that never ends is FAR plus the time at
-- which it was made.
local FAR = 1e15

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Returns a number as commands take it. By itself, Lua would write 1e+15.
local function integer(number)
  return string.format('%.0f', number)
end
