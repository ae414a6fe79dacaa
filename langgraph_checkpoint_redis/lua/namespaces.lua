-- Tells how many checkpoints a thread has in each namespace, and which are the oldest and the newest.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- ARGV[1]  where to begin: '-' at first, then as returned
-- Returns  {from, namespaces, state}: from is empty at the end; a namespace is {namespace,
--          checkpoints, oldest id, newest id}; state is what delete_unused.lua asks for

-- Most threads have one namespace, whose ends are those of the thread. Walks over all threads ask for no
-- more of most, so this comes before anything is defined that others need.
if ARGV[1] == '-' then
  local first = redis.call('ZRANGE', KEYS[1], 0, 0)[1] or ''
  local last = redis.call('ZRANGE', KEYS[1], -1, -1)[1] or ''
  local ns, oldest = string.match(first, '^(%Z*)%z(%Z*)%z')
  local last_ns, newest = string.match(last, '^(%Z*)%z(%Z*)%z')
  if ns and ns == last_ns then
    local count = redis.call('ZCARD', KEYS[1])
    local state = count .. ' ' .. redis.call('ZCARD', KEYS[2]) .. ' ' .. newest
    return {'', {{ns, count, oldest, newest}}, state}
  end
end

-- include rows
-- include whole
-- include state

local NAMESPACES, BYTES = 200, 1024 * 1024 -- in a call, and in the rows that it comes by

local from, namespaces, bytes = ARGV[1], {}, 0
while from ~= '' and #namespaces < NAMESPACES and bytes < BYTES do
  local row = redis.call('ZRANGEBYLEX', TIMELINE, from, '+', 'LIMIT', 0, 1)[1]
  if row then
    local ns, oldest = place_of(row)
    local count = redis.call('ZLEXCOUNT', TIMELINE, '[' .. ns .. '\0', '(' .. ns .. '\1')
    local latest = latest_row(ns)
    namespaces[#namespaces + 1] = {ns, count, oldest, id_of(latest)}
    bytes = bytes + #row + #latest
    from = '[' .. ns .. '\1'
  else
    from = ''
  end
end
return {from, namespaces, state_of_thread()}
