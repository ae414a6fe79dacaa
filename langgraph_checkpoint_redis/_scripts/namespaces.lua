-- Tells how many checkpoints a thread has in each namespace, and which are the oldest and the newest.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- ARGV[1]  where to begin: '-' at first, then as returned
-- ARGV[2]  with the first call, a random token of a caller who wants to delete the thread if it stays as it is; or
--          empty, then nothing is written
-- ARGV[3]  a time: then threads that seem to have a newer checkpoint are not watched. It is the beginning of the
--          UUIDs of version 6 that are made then, 48 bits as a number; or empty
-- Returns  {from, namespaces, token}: from is empty at the end; a namespace is {namespace, checkpoints, oldest id,
--          newest id}; token is what delete_unused.lua asks for, or empty

-- Needs: keys
-- Within start_watching: control, first_write, watch
-- Within count_checkpoints: rows, whole

-- Returns whether a thread whose newest checkpoint this is should be watched.
local function is_to_watch(newest)
  if ARGV[2] == '' or ARGV[3] == '' then
    return ARGV[2] ~= ''
  end
  local time = tonumber(string.sub(newest, 1, 8) .. string.sub(newest, 10, 13), 16)
  return time and time <= tonumber(ARGV[3])
end

local function start_watching()
  read_control()
  redis.call('HLEN', RUNS) -- raises an error before anything is changed, if it is no hash
  write_even_if_full()
  return watch(ARGV[2])
end

local NAMESPACES, BYTES = 200, 1024 * 1024 -- in a call, and in the rows that it comes by

local function count_checkpoints()
  local from, namespaces, bytes, is_idle = ARGV[1], {}, 0, ARGV[1] == '-'
  while from ~= '' and #namespaces < NAMESPACES and bytes < BYTES do
    local row = redis.call('ZRANGEBYLEX', TIMELINE, from, '+', 'LIMIT', 0, 1)[1]
    if row then
      local ns, oldest = split_row(row)
      local count = redis.call('ZLEXCOUNT', TIMELINE, '[' .. ns .. '\0', '(' .. ns .. '\1')
      local latest = latest_row(ns)
      local newest = id_of(latest)
      namespaces[#namespaces + 1] = {ns, count, oldest, newest}
      bytes = bytes + #row + #latest
      is_idle = is_idle and is_to_watch(newest)
      from = '[' .. ns .. '\1'
    else
      from = ''
    end
  end
  if not namespaces[1] then
    check_whole()
  end
  return {from, namespaces, namespaces[1] and is_idle and start_watching() or ''}
end

-- Most threads have one namespace, whose ends are those of the thread. Walks over all threads need no more of
-- most threads, so this comes first, and needs no library.
if ARGV[1] == '-' then
  local first = redis.call('ZRANGE', TIMELINE, 0, 0)[1] or ''
  local last = redis.call('ZRANGE', TIMELINE, -1, -1)[1] or ''
  local ns, oldest = string.match(first, '^(%Z*)%z(%Z*)%z')
  local last_ns, newest = string.match(last, '^(%Z*)%z(%Z*)%z')
  if ns and ns == last_ns then
    local count = redis.call('ZCARD', TIMELINE)
    return {'', {{ns, count, oldest, newest}}, is_to_watch(newest) and start_watching() or ''}
  end
end
return count_checkpoints()
