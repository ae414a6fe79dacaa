-- Tells how many checkpoints a thread has in each namespace, and which are the oldest and the newest.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- ARGV[1]  where to begin: '-' at first, then as returned
-- Returns  {from, namespaces, state}: from is empty at the end; a namespace is {namespace,
--          checkpoints, oldest id, newest id}; state is what delete_unused.lua asks for

-- include rows
-- include whole
-- include state

local NAMESPACES = 200 -- in a call

local from, namespaces = ARGV[1], {}
while from ~= '' and #namespaces < NAMESPACES do
  local row = redis.call('ZRANGEBYLEX', TIMELINE, from, '+', 'LIMIT', 0, 1)[1]
  if row then
    local ns, oldest = place_of(row)
    local count = redis.call('ZLEXCOUNT', TIMELINE, '[' .. ns .. '\0', '(' .. ns .. '\1')
    namespaces[#namespaces + 1] = {ns, count, oldest, id_of(latest_row(ns))}
    from = '[' .. ns .. '\1'
  else
    from = ''
  end
end
return {from, namespaces, state_of_thread()}
