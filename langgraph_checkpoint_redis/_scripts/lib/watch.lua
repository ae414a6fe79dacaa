-- Watching a thread over several calls: a token in CONTROL, which every script that changes the thread takes away.
--
-- So a thread that has the token still is as it was. One without it may have changed: the token was taken away, or
-- CONTROL has expired or was evicted. The time is a part of the token. A request that arrives once more, after the
-- thread has changed, thus makes another token than the caller has.
--
-- Needs: clock, keys, control
-- Gives: watch, is_watched_by, end_watch

local WATCHED = 60000 -- milliseconds that the control waits for the next call, if the caller does not say

-- Watch the thread, or go on with it for another caller as well. Return the token.
local function watch(token, milliseconds)
  if (control.watch or '') == '' then
    local time = redis.call('TIME')
    set_control('watch', token .. time[1] .. string.format('%06d', time[2]))
  end
  set_control('watched', integer(math.max(time_of('watched'), now() + (milliseconds or WATCHED))))
  keep_control()
  return control.watch
end

local function is_watched_by(token)
  return token ~= '' and control.watch == token
end

-- Forget who watches, as the thread is gone. Takes no memory.
local function end_watch()
  redis.call('HDEL', CONTROL, 'watch', 'watched')
  control.watch, control.watched = nil, nil
end
