-- What is special about a thread, in the hash CONTROL; most threads have none, which costs one command.
--
-- ttl       milliseconds that this thread lives after its last use, whatever savers say; 0: it is pinned
-- deadline  when the thread expires
-- indexed   until when the entries in the index of runs lead here, see life.lua
-- wanted    the deadline that the thread gets when they lead here for long enough
-- lease, until, span     the token of a lease, when it ends, and for how many milliseconds it is given
-- watch, watched  what those who read the thread in parts know it by, empty once it has changed; until when
--           the hash stays for them
-- deleted, newest  until when late writers of a thread that was deleted are refused, and the newest
--           checkpoint that there was
--
-- All times are milliseconds of Unix time by the server's clock.
--
-- CHUNKS has a copy of `ttl`: a server that evicts CONTROL must not let a pinned thread expire.
--
-- Needs: clock, keys
-- Gives: control, set_control, time_of, set_own_ttl, forget_life, notify_readers, read_control, keep_control

local control = {}

local function set_control(field, value)
  control[field] = value
  redis.call('HSET', CONTROL, field, value)
end

-- A time that a field tells, or 0.
local function time_of(field)
  return tonumber(control[field] or 0)
end

-- Gives the thread its own time to live, or takes it back with nil. Chunks that are gone are not begun with it: who
-- writes next would not notice that they are.
local function set_own_ttl(ttl)
  redis.call('HDEL', CHUNKS, 'ttl')
  if ttl then
    set_control('ttl', ttl)
    if redis.call('EXISTS', CHUNKS) == 1 then
      redis.call('HSET', CHUNKS, 'ttl', ttl)
    end
  else
    redis.call('HDEL', CONTROL, 'ttl')
    control.ttl = nil
  end
end

local function forget_life()
  redis.call('HDEL', CONTROL, 'ttl', 'deadline', 'indexed')
  control.ttl, control.deadline, control.indexed = nil, nil, nil
end

-- Notes that the thread changes, for readers that read it in parts: a script that changes a thread calls this, mostly
-- by `check_lease`. It takes memory, so that it lets no script write although the server's memory is full.
local function notify_readers()
  if (control.watch or '') ~= '' then
    set_control('watch', '')
  end
end

-- Returns whether the thread is there, though its deadline has come. A key lasts until its deadline has passed, which
-- is a millisecond later; and by the time at which a script began, while TIME goes on before Redis 7.2.
local function is_still_there()
  return redis.call('PTTL', TIMELINE) >= 0 or redis.call('PTTL', WRITES) >= 0
end

-- Reads the hash: a script that needs it calls this once, before anything else that does. What was said of a thread
-- that has expired does not hold for the next one of its id.
local function read_control()
  local fields = redis.call('HGETALL', CONTROL)
  for i = 1, #fields, 2 do
    control[fields[i]] = fields[i + 1]
  end
  if control.deadline and time_of('deadline') <= now() and not is_still_there() then
    forget_life()
  elseif not control.ttl then
    local copy = redis.pcall('HGET', CHUNKS, 'ttl')
    control.ttl = type(copy) == 'string' and copy or nil
  end
end

-- CONTROL stays as long as anything in it has a meaning. A time to live of its own has one as long as
-- the thread is there, for which there is a deadline.
local function keep_control()
  if control.ttl == '0' then
    redis.call('PERSIST', CONTROL)
  else
    local last = math.max(time_of('deadline'), time_of('until'), time_of('deleted'), time_of('watched'))
    redis.call('PEXPIREAT', CONTROL, integer(last))
  end
end
